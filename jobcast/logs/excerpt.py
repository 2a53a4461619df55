"""The head and the tail of a log as it is read, with its size and hash. Pure; the limit bounds the memory.

log ≤ limit      the whole log
longer           first half, a line that says how many bytes are left out, last half; cut at a line end where there is one
                 in the last quarter of the head, or in the first quarter of the tail
"""

import codecs
import hashlib

_Decoder = codecs.getincrementaldecoder("utf-8")
_INSIDE_CHARACTER = bytes(range(0b1000_0000, 0b1100_0000))
"""The bytes that follow the first one of a character."""


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
        # Without a line end a cut may split a character. Its halves are dropped, not replaced: the decoder keeps the first one.
        first = _Decoder("replace").decode(head).removesuffix("\n")
        last = (tail[:3].lstrip(_INSIDE_CHARACTER) + tail[3:]).decode(errors="replace")
        return f"{first}\n[... {left_out} bytes left out ...]\n{last}"
