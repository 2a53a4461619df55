"""Where whole logs are kept: Redis, a folder, or an object store; and how they come back.

`base` says what a store is, `keeper` feeds one without holding anybody up, `redis` and `objects` are the two kinds, `fetch` reads
for subscribers. Importing this room costs nothing: what obstore and zstandard are needed for is imported when it is used.
"""

import secrets

from jobcast.logstore.base import REFUSED, UNAVAILABLE, Archive, ArchiveError, Kept, LogPlace, Sink
from jobcast.logstore.redis import Put, RedisArchive
from jobcast.logstore.uploader import Uploader

__all__ = [
    "REFUSED",
    "UNAVAILABLE",
    "Archive",
    "ArchiveError",
    "Kept",
    "LogPlace",
    "Put",
    "RedisArchive",
    "Sink",
    "Uploader",
    "check_store",
    "is_url",
    "open_archive",
    "probe",
]


def is_url(store: str) -> bool:
    """Whether it leads to an object store or a folder."""
    return store not in ("none", "redis")


def open_archive(store: str, *, put: Put, limit: int) -> Archive | None:
    """The archive that LOG_STORE names; None for `none`. `put` and `limit` are for Redis."""
    if store == "none":
        return None
    if store == "redis":
        return RedisArchive(put, limit)
    from jobcast.logstore.objects import ObjectArchive

    return ObjectArchive(store)


def check_store(store: str) -> str:
    """LOG_STORE itself. Raises ValueError saying what would be right, never repeating what might be a secret."""
    if not is_url(store):
        return store
    from jobcast.logstore.urls import open_store, parse

    try:
        open_store(parse(store))
    except ImportError as error:
        raise ValueError(str(error)) from None
    return store.rstrip("/")


async def probe(store: str) -> None:
    """Write a small object, read it back and delete it. Raises ArchiveError."""
    if is_url(store):
        from jobcast.logstore.probe import try_out

        await try_out(store, secrets.token_hex(8))
