"""Gets logs back, for subscribers: redis and msgspec are all that is surely installed.

Whole logs of an object store are read in pieces, in bounded memory. Importing this costs nothing; what obstore and
zstandard are needed for is imported when it is asked for.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Generator, Iterator

from jobcast.logstore.urls import READ_SECONDS, StoreUrl, errors, explain, open_store, parse

PIECE_BYTES = 1024 * 1024
"""Of each piece of a log that is read: a request's worth of round trips, little enough to hold."""


class LogNotFound(LookupError):
    """Nothing is kept there, or not any more."""


LARGEST_BYTES = 268_435_456
"""The largest LOG_STORE_LIMIT_BYTES that there is. What is more was written by somebody else, to fill a reader's memory."""


def decompressed(blob: bytes) -> bytes:
    """A log as it was, from what Redis keeps of it. Raises ValueError for what is damaged, ImportError without zstandard."""
    try:
        from compression import zstd  # type: ignore[import-not-found, unused-ignore]  # Python 3.14
    except ImportError:
        return _decompressed(blob)
    stream = zstd.ZstdDecompressor()
    try:
        whole: bytes = stream.decompress(blob, max_length=LARGEST_BYTES + 1)
    except zstd.ZstdError as error:
        raise ValueError(f"the log that is kept is damaged: {error}") from None
    _check(len(whole), stream.eof)
    return whole


def _decompressed(blob: bytes) -> bytes:
    try:
        import zstandard
    except ImportError:
        raise ImportError("zstandard is missing; whole logs need: pip install 'jobcast[archive]'") from None
    decompressor = zstandard.ZstdDecompressor()
    try:
        # Counted before it is kept: fifteen kilobytes may become half a gigabyte.
        reader, size = decompressor.stream_reader(blob), 0
        while size <= LARGEST_BYTES and (piece := reader.read(PIECE_BYTES)):
            size += len(piece)
        _check(size, True)
        stream = decompressor.decompressobj()
        whole = bytes(stream.decompress(blob))
    except zstandard.ZstdError as error:
        raise ValueError(f"the log that is kept is damaged: {error}") from None
    _check(len(whole), stream.eof)
    return whole


def _check(size: int, is_whole: bool) -> None:
    if size > LARGEST_BYTES:
        raise ValueError("the log that is kept is damaged: it is larger than any that Jobcast keeps in Redis")
    if not is_whole:
        raise ValueError("the log that is kept is damaged: its end is missing")


def read_object(ref: str) -> Generator[bytes, None, None]:
    """The log's bytes, in pieces; blocks. Raises LogNotFound, ArchiveError, ValueError for a ref that is none, and ImportError."""
    url = parse(ref)
    store = open_store(url, request_seconds=READ_SECONDS)
    import obstore

    try:
        for piece in obstore.get(store, url.path).stream(min_chunk_size=PIECE_BYTES):
            yield bytes(piece)
    except FileNotFoundError as error:
        raise _missing(error, url) from None
    except errors() as error:
        raise explain(error, url) from None


async def read_object_async(ref: str) -> AsyncGenerator[bytes, None]:
    """The same for asyncio."""
    # In threads and not by obstore's own futures: those may abort an interpreter that ends right after (see
    # objects.SETTLE_SECONDS), and here it is somebody else's.
    pieces = read_object(ref)
    try:
        while (piece := await asyncio.to_thread(_next, pieces)) is not None:
            yield piece
    finally:
        # Not while a thread still waits for the next piece, as after a cancellation: it ends with that piece.
        with contextlib.suppress(ValueError):
            pieces.close()


def _next(pieces: Iterator[bytes]) -> bytes | None:
    return next(pieces, None)


def _missing(error: FileNotFoundError, url: StoreUrl) -> Exception:
    # S3 and Azure answer 404 for a bucket or container that is not there, too.
    if "NoSuchBucket" in str(error) or "ContainerNotFound" in str(error):
        return explain(error, url)
    return LogNotFound(f"{url.text} is not there, or not any more")
