"""Reads stored logs, for subscribers.

The log of an object store comes in pieces, in bounded memory. obstore and zstandard are imported when they are first needed:
a subscriber has redis and msgspec for certain, and nothing else.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Generator

from jobcast.logstore.base import LARGEST_BYTES
from jobcast.logstore.urls import READ_SECONDS, StoreUrl, errors, explain, open_store, parse

PIECE_BYTES = 1024 * 1024
"""The size of a piece: worth a round trip, and little to hold."""


class LogNotFound(LookupError):
    """The store has no log at this place, or no longer."""


def decompress(blob: bytes) -> bytes:
    """The log, from the bytes in Redis. Raises ValueError for damaged bytes, ImportError without zstandard."""
    try:
        from compression import zstd  # type: ignore[import-not-found, unused-ignore]  # Python 3.14
    except ImportError:
        return _decompress(blob)
    stream = zstd.ZstdDecompressor()
    try:
        whole: bytes = stream.decompress(blob, max_length=LARGEST_BYTES + 1)
    except zstd.ZstdError as error:
        raise ValueError(f"the stored log is damaged: {error}") from None
    _check(len(whole), stream.eof)
    return whole


def _decompress(blob: bytes) -> bytes:
    try:
        import zstandard
    except ImportError:
        raise ImportError("zstandard is missing; whole logs need: pip install 'jobcast[archive]'") from None
    decompressor = zstandard.ZstdDecompressor()
    try:
        # Count first, in little memory: fifteen kilobytes may become half a gigabyte.
        reader, size = decompressor.stream_reader(blob), 0
        while size <= LARGEST_BYTES and (piece := reader.read(PIECE_BYTES)):
            size += len(piece)
        _check(size, True)
        stream = decompressor.decompressobj()
        whole = bytes(stream.decompress(blob))
    except zstandard.ZstdError as error:
        raise ValueError(f"the stored log is damaged: {error}") from None
    _check(len(whole), stream.eof)
    return whole


def _check(size: int, is_whole: bool) -> None:
    if size > LARGEST_BYTES:
        raise ValueError("the stored log is damaged: it is larger than any log that Jobcast stores in Redis")
    if not is_whole:
        raise ValueError("the stored log is damaged: its end is missing")


def read_object(ref: str) -> Generator[bytes, None, None]:
    """The log's bytes, in pieces; blocks. Raises LogNotFound, LogStoreError, ImportError, and ValueError for a wrong ref."""
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
    # In threads and not with obstore's own futures: those may abort an interpreter that ends right afterwards (see
    # objects.SETTLE_SECONDS), and the interpreter is the subscriber's.
    pieces = read_object(ref)
    try:
        while piece := await asyncio.to_thread(next, pieces, b""):
            yield piece
    finally:
        # It cannot close while a thread waits for the next piece, as after a cancellation: it ends with that piece.
        with contextlib.suppress(ValueError):
            pieces.close()


def _missing(error: FileNotFoundError, url: StoreUrl) -> Exception:
    # S3 and Azure answer 404 for a missing bucket or container, too.
    if "NoSuchBucket" in str(error) or "ContainerNotFound" in str(error):
        return explain(error, url)
    return LogNotFound(f"{url.text} is not there; it may have expired")
