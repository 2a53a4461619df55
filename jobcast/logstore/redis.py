"""Logs in Redis: compressed, up to a limit. The ledger is the only one who writes there, so the bytes are handed to it."""

from collections.abc import Awaitable, Callable
from typing import Any

from jobcast.logstore.base import ArchiveError, Kept, LogPlace

Put = Callable[[LogPlace, bytes, int], Awaitable[Kept]]
"""Keeps a log's compressed bytes; the number is their size before. Raises ArchiveError. Sees to it that a fuller one stays."""
_WHOLE_BYTES = 1024 * 1024
"""Up to here a log is compressed in one go: a stream's state takes 4 MB by itself."""


class RedisArchive:
    """Keeps the first `limit` bytes of each log."""

    def __init__(self, put: Put, limit: int) -> None:
        self._put = put
        self._limit = limit

    def sink(self, place: LogPlace) -> "RedisSink":
        return RedisSink(self._put, self._limit, place)

    async def aclose(self) -> None:
        return


class RedisSink:
    """Compresses as the bytes come in."""

    def __init__(self, put: Put, limit: int, place: LogPlace) -> None:
        self._put = put
        self._limit = limit
        self._place = place
        self._size = 0
        self._raw = bytearray()
        self._compressed = bytearray()
        self._stream: Any = None

    async def write(self, chunk: bytes) -> None:
        kept = chunk[: self._limit - self._size]
        self._size += len(kept)
        self._raw += kept
        if len(self._raw) > _WHOLE_BYTES:
            if self._stream is None:
                self._stream = _compressor().compressobj()
            self._compressed += self._stream.compress(self._raw)
            self._raw = bytearray()

    async def commit(self) -> Kept:
        if self._stream is None:
            blob = _compressor().compress(self._raw)
        else:
            blob = bytes(self._compressed + self._stream.compress(self._raw) + self._stream.flush())
        self._forget()
        return await self._put(self._place, blob, self._size)

    async def abort(self, because: ArchiveError | None = None) -> None:
        self._forget()

    def _forget(self) -> None:
        self._raw, self._compressed, self._stream = bytearray(), bytearray(), None


def _compressor() -> Any:
    import zstandard  # only where logs are stored: a subscriber does without it

    return zstandard.ZstdCompressor()  # level 3, its default: 200 MB/s and more on text
