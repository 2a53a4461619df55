"""Logs in Redis: compressed as they are read, up to a limit, and decompressed."""

import random

import pytest
import zstandard

from jobcast.logstore import UNAVAILABLE, LogPlace, LogStoreError, RedisLogStore, Stored, Uploader, fetch
from jobcast.logstore.fetch import decompress
from tests.logstore.conftest import place, store_log

MIB = 1024 * 1024


class MemoryRedis:
    """In place of the log index."""

    def __init__(self) -> None:
        self.blobs: dict[LogPlace, tuple[bytes, int]] = {}

    async def put(self, where: LogPlace, blob: bytes, size: int) -> Stored:
        self.blobs[where] = blob, size
        return Stored(f"redis:{where.source}", size)


@pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, MIB + 1, 5 * MIB])
@pytest.mark.parametrize("piece", [4099, 65_536, 8 * MIB])
async def test_the_exact_bytes_come_back(size: int, piece: int) -> None:
    data, redis = random.Random(size).randbytes(size), MemoryRedis()
    assert await store_log(RedisLogStore(redis.put, 8 * MIB), place(), data, piece) == Stored("redis:pod/main", size)
    blob, published = redis.blobs[place()]
    assert published == size
    assert decompress(blob) == data


async def test_text_is_compressed() -> None:
    line, redis = b"2026-11-20T10:00:00Z step 17 loss 0.1234\n", MemoryRedis()
    await store_log(RedisLogStore(redis.put, 8 * MIB), place(), line * 100_000)
    assert len(redis.blobs[place()][0]) < 100_000


@pytest.mark.parametrize("limit", [1, 1000, 65_536, MIB, 2 * MIB])
async def test_a_log_over_the_limit_is_cut_and_reported_as_cut(limit: int) -> None:
    data, redis = random.Random(1).randbytes(3 * MIB), MemoryRedis()
    stored = await store_log(RedisLogStore(redis.put, limit), place(), data)
    assert stored == Stored("redis:pod/main", limit)
    assert decompress(redis.blobs[place()][0]) == data[:limit]


async def test_an_error_of_redis_is_returned() -> None:
    failure = LogStoreError(UNAVAILABLE, "down")

    async def put(where: LogPlace, blob: bytes, size: int) -> Stored:
        raise failure

    assert await store_log(RedisLogStore(put, MIB), place(), b"abc") is failure


async def test_an_aborted_upload_puts_nothing() -> None:
    redis = MemoryRedis()
    uploader = Uploader(RedisLogStore(redis.put, MIB), place())
    await uploader.feed(b"abc")
    await uploader.abort()
    assert redis.blobs == {}


def test_a_damaged_log_is_an_error_and_never_a_shorter_log() -> None:
    whole = zstandard.compress(random.Random(2).randbytes(300_000))
    for blob in (b"", b"not zstd at all", whole[:-1], whole[:1000], b"x" + whole[1:]):
        with pytest.raises(ValueError, match="damaged"):
            decompress(blob)


def test_a_log_that_would_fill_the_readers_memory_is_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "LARGEST_BYTES", 1000)
    blob = zstandard.compress(bytes(1001))
    with pytest.raises(ValueError, match="larger than any"):
        decompress(blob)
    assert decompress(zstandard.compress(bytes(1000))) == bytes(1000)
