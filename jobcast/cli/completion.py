"""Completion of evaluations' ids in the shell: those that were told of last. Never an error, and never long."""

import contextlib

import typer

from jobcast.client import ClientError
from jobcast.client.address import address, names
from jobcast.redis.connection import ERRORS, connect_plain

ANSWER_SECONDS = 1.0
"""Whoever presses Tab waits no longer, and for a connection twice that."""
LATEST = 300
"""Entries of the stream that are looked at: an entry is 1 KB to 65 KB."""


def evaluations(ctx: typer.Context, incomplete: str) -> list[str]:
    """Ids that begin so, the latest first; none where Redis does not answer in time, or not us."""
    with contextlib.suppress(*ERRORS, ClientError, ValueError):
        url, keys = address(ctx.params.get("redis_url")), names(ctx.params.get("prefix"))
        with connect_plain(url, prefix=keys.prefix, answer_seconds=ANSWER_SECONDS) as redis:
            entries = redis.xrevrange(keys.events, count=LATEST)
        found = (fields.get(b"eval_id", b"").decode(errors="replace") for _, fields in entries)
        return [one for one in dict.fromkeys(found) if one and one.isprintable() and one.startswith(incomplete)]
    return []
