"""Tries a store out, before logs depend on it."""

import asyncio
import contextlib

from jobcast.logstore.base import REFUSED, UNAVAILABLE, ArchiveError
from jobcast.logstore.objects import SETTLE_SECONDS
from jobcast.logstore.urls import StoreUrl, errors, explain, open_store, parse

PROBE_SECONDS = 10.0
"""Three requests that take milliseconds each, and two tries for a connection."""


async def try_out(store: str, mark: str) -> None:
    """Write an object named for `mark`, read it back, delete it. Raises ArchiveError."""
    base = parse(store)
    url = StoreUrl(base.root, f"{base.path}/.jobcast-check-{mark}".lstrip("/"))
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            await _round_trip(url, mark.encode())
    except TimeoutError:
        raise ArchiveError(UNAVAILABLE, f"{base.text}: it does not answer within {PROBE_SECONDS:g} s") from None
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
        raise ArchiveError(REFUSED, f"{url.text}: it gives back other bytes than it was given")
    # Jobcast never deletes a log, so an account that may not is fine; the object has a few bytes.
    with contextlib.suppress(Exception):
        await obstore.delete_async(store, url.path)
