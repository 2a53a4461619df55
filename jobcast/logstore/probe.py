"""Tries a store before logs depend on it."""

import asyncio
import contextlib

from jobcast.logstore.base import REFUSED, UNAVAILABLE, LogStoreError
from jobcast.logstore.objects import SETTLE_SECONDS
from jobcast.logstore.urls import StoreUrl, errors, explain, open_store, parse

PROBE_SECONDS = 10.0
"""Three requests take milliseconds each, and two attempts to connect two seconds each."""


async def probe_store(store: str, mark: str) -> None:
    """Write an object named after `mark`, read it and delete it. Raises LogStoreError."""
    base = parse(store)
    url = StoreUrl(base.root, f"{base.path}/.jobcast-check-{mark}".lstrip("/"))
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            await _round_trip(url, mark.encode())
    except TimeoutError:
        raise LogStoreError(UNAVAILABLE, f"{base.text}: the store does not answer within {PROBE_SECONDS:g} s") from None
    except errors() as error:
        raise explain(error, base) from None
    finally:
        await asyncio.sleep(SETTLE_SECONDS)


async def _round_trip(url: StoreUrl, content: bytes) -> None:
    import obstore

    store = open_store(url)
    await obstore.put_async(store, url.path, content, use_multipart=False)
    result = await obstore.get_async(store, url.path)
    if bytes(await result.bytes_async()) != content:
        raise LogStoreError(REFUSED, f"{url.text}: the store returned other bytes than were written")
    # The account need not be allowed to delete: Jobcast never deletes an object, and this one has a few bytes.
    with contextlib.suppress(Exception):
        await obstore.delete_async(store, url.path)
