"""Shell completion of evaluation ids: newest change first. It never fails, and ends within seconds."""

import contextlib

import typer

from jobcast.client import ClientError
from jobcast.client.address import address, names
from jobcast.redis.connection import ERRORS, connect_plain

ANSWER_SECONDS = 1.0
"""The user who presses Tab waits this long for Redis, and twice that for a connection."""
MOST = 1000
"""Ids that are read from the index: some 50 KB."""


def evaluations(ctx: typer.Context, incomplete: str) -> list[str]:
    """Ids that begin so; none if Redis does not answer in time or refuses the account."""
    with contextlib.suppress(*ERRORS, ClientError, ValueError):
        url, keys = address(ctx.params.get("redis_url")), names(ctx.params.get("prefix"))
        with connect_plain(url, prefix=keys.prefix, answer_seconds=ANSWER_SECONDS) as redis:
            found = [one.decode(errors="replace") for one in redis.zrange(keys.index, 0, MOST - 1, desc=True)]
        typed = set(ctx.params.get("evaluations") or ())
        return [one for one in found if one.isprintable() and one.startswith(incomplete) and one not in typed]
    return []
