"""Logs in Redis: compressed, up to a limit. This room has no connection: jobcast.logs.index writes the bytes."""

from collections.abc import Awaitable, Callable
from typing import Any

from jobcast.logstore.base import LogPlace, LogStoreError, Stored

Put = Callable[[LogPlace, bytes, int], Awaitable[Stored]]
"""Stores a log's compressed bytes unless a longer log is there; the number is their size before. Raises LogStoreError."""
_WHOLE_BYTES = 1024 * 1024
"""Up to this size a log is compressed in one call: the state of a stream takes 4 MB."""


class RedisLogStore:
    """Stores the first `limit` bytes of each log."""

    def __init__(self, put: Put, limit: int) -> None:
        self._put = put
        self._limit = limit

    def new_upload(self, place: LogPlace) -> "RedisUpload":
        return RedisUpload(self._put, self._limit, place)

    async def aclose(self) -> None:
        return


class RedisUpload:
    """Compresses the bytes as they come in."""

    def __init__(self, put: Put, limit: int, place: LogPlace) -> None:
        self._put = put
        self._limit = limit
        self._place = place
        self._size = 0
        self._raw = bytearray()
        self._compressed = bytearray()
        self._stream: Any = None

    async def write(self, chunk: bytes) -> None:
        taken = chunk[: self._limit - self._size]
        self._size += len(taken)
        self._raw += taken
        if len(self._raw) > _WHOLE_BYTES:
            if self._stream is None:
                self._stream = _compressor().compressobj()
            self._compressed += self._stream.compress(self._raw)
            self._raw = bytearray()

    async def commit(self) -> Stored:
        if self._stream is None:
            blob = _compressor().compress(self._raw)
        else:
            blob = bytes(self._compressed + self._stream.compress(self._raw) + self._stream.flush())
        self._clear()
        return await self._put(self._place, blob, self._size)

    async def abort(self, because: LogStoreError | None = None) -> None:
        self._clear()

    def _clear(self) -> None:
        self._raw, self._compressed, self._stream = bytearray(), bytearray(), None


def _compressor() -> Any:
    import zstandard  # only where logs are stored: subscribers need not have it

    return zstandard.ZstdCompressor()  # level 3, its default: 200 MB/s and more on text
