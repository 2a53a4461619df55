"""The head and the tail of a log as it is read, with its size and hash. Pure; the limit bounds the memory.

log ≤ limit      the whole log
longer           first half, a line that says how many bytes are left out, last half; cut at a line end where there is one
                 in the last quarter of the head, or in the first quarter of the tail
"""

import hashlib


class Excerpt:
    """Feed it all chunks, then ask for the text. `limit` is in bytes of the log, without the line between the halves."""

    def __init__(self, limit: int) -> None:
        self._half = limit // 2
        self._head_limit = limit - self._half
        self._head = bytearray()
        self._tail = bytearray()
        self._hash = hashlib.sha256()
        self.size = 0
        """Bytes fed so far."""

    def feed(self, chunk: bytes) -> None:
        self.size += len(chunk)
        self._hash.update(chunk)
        room = self._head_limit - len(self._head)
        if room > 0:
            self._head += chunk[:room]
            chunk = chunk[room:]
        self._tail += chunk[-self._half :]
        # Trimmed at twice the half and not at each chunk, which would be quadratic for many small chunks.
        if len(self._tail) > 2 * self._half:
            del self._tail[: -self._half]

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    @property
    def is_cut(self) -> bool:
        return self.size > len(self._head) + min(len(self._tail), self._half)

    def text(self) -> str:
        """The excerpt; bytes that are not UTF-8 become replacement characters."""
        if not self.is_cut:
            return (self._head + self._tail).decode(errors="replace")
        head, tail = self._head, self._tail[-self._half :]
        if (end := head.rfind(b"\n", len(head) * 3 // 4)) >= 0:
            head = head[: end + 1]
        if (start := tail.find(b"\n", 0, len(tail) // 4)) >= 0:
            tail = tail[start + 1 :]
        left_out = self.size - len(head) - len(tail)
        # Without a line end a cut may split a character: its halves are dropped, not replaced.
        return f"{_without_half_character(head)}\n[... {left_out} bytes left out ...]\n{_from_whole_character(tail)}"


def _without_half_character(data: bytearray) -> str:
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte & 0b1100_0000 == 0b1000_0000:
            continue  # inside a character: look for its first byte
        needed = 2 if byte >> 5 == 0b110 else 3 if byte >> 4 == 0b1110 else 4 if byte >> 3 == 0b11110 else 1
        if needed > back:
            data = data[:-back]
        break
    return data.decode(errors="replace").removesuffix("\n")


def _from_whole_character(data: bytearray) -> str:
    start = 0
    while start < min(3, len(data)) and data[start] & 0b1100_0000 == 0b1000_0000:
        start += 1
    return data[start:].decode(errors="replace")
