"""Where whole logs are stored, and how subscribers read them: in Redis, a folder or an object store.

base         what a log store promises                                     (no I/O)
redis        logs in Redis, compressed
objects      logs in an object store or a folder
urls         LOG_STORE's URLs, and the errors of obstore
uploader     writes one log to a store without delaying its reader
circuit      spares other logs the wait while a store is down
retention    removes expired logs from a folder
probe        tries a store before logs depend on it
fetch        reads stored logs, for subscribers

Importing this room is cheap: obstore and zstandard are imported when they are first needed.
"""

import secrets

from jobcast.logstore.base import REFUSED, UNAVAILABLE, LogPlace, LogStore, LogStoreError, Stored, Upload
from jobcast.logstore.redis import Put, RedisLogStore
from jobcast.logstore.uploader import Uploader

__all__ = [
    "REFUSED",
    "UNAVAILABLE",
    "LogPlace",
    "LogStore",
    "LogStoreError",
    "Put",
    "RedisLogStore",
    "Stored",
    "Upload",
    "Uploader",
    "check_store",
    "is_url",
    "open_log_store",
    "probe",
]


def is_url(store: str) -> bool:
    """Whether LOG_STORE names an object store or a folder."""
    return store not in ("none", "redis")


def open_log_store(store: str, *, put: Put, limit: int) -> LogStore | None:
    """The store that LOG_STORE names; None for `none`. `put` and `limit` are for Redis."""
    if store == "none":
        return None
    if store == "redis":
        return RedisLogStore(put, limit)
    from jobcast.logstore.objects import ObjectLogStore

    return ObjectLogStore(store)


def check_store(store: str) -> str:
    """LOG_STORE itself. Raises ValueError, which says what would be right and repeats nothing that may be a secret."""
    if not is_url(store):
        return store
    from jobcast.logstore.urls import open_store, parse

    try:
        open_store(parse(store))
    except ImportError as error:
        raise ValueError(str(error)) from None
    return store.rstrip("/")


async def probe(store: str) -> None:
    """Write a small object, read it and delete it. Raises LogStoreError."""
    if is_url(store):
        from jobcast.logstore.probe import probe_store

        await probe_store(store, secrets.token_hex(8))
