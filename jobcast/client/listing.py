"""Listing evaluations, newest change first: from the index, page by page, in bounded memory."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from jobcast.client.announced import clock
from jobcast.client.effects import Call, Give, Operation, Pipeline, Ready
from jobcast.client.entry import text
from jobcast.client.position import When, when
from jobcast.client.record import Record, batches, checked_replies, read_many, retry_once
from jobcast.event import PENDING, Status
from jobcast.filters import Filter, OneOrMore, filter_of
from jobcast.keys import Keys

PAGE = 200
"""Ids in one reply."""
STATUSES = (PENDING, *Status)


class Listing(NamedTuple):
    """Which evaluations to list."""

    statuses: frozenset[str]
    """Empty: any."""
    filter: Filter
    """Of namespaces and labels; its statuses are not used, because a pending evaluation has none of them."""
    since: When | None
    """Of the last change."""
    limit: int | None

    def has(self, record: Record) -> bool:
        """Whether the record is listed. A record without an event has no labels."""
        if (self.statuses and record.status not in self.statuses) or not self._has_namespace(record.namespace):
            return False
        return not self.filter.labels or (record.event is not None and self.filter.is_about(record.event))

    def may_have(self, status: str, namespace: str) -> bool:
        return (not self.statuses or status in self.statuses) and self._has_namespace(namespace)

    def _has_namespace(self, namespace: str) -> bool:
        return not self.filter.namespaces or namespace in self.filter.namespaces


def listing(
    status: OneOrMore | None = None,
    namespace: OneOrMore | None = None,
    labels: Mapping[str, OneOrMore] | None = None,
    pipeline: OneOrMore | None = None,
    since: str | None = None,
    limit: int | None = None,
) -> Listing:
    """Raises ValueError, saying what would be right."""
    statuses = frozenset([status] if isinstance(status, str) else status or ())
    for one in sorted(statuses.difference(STATUSES)):
        raise ValueError(f"{one!r} is not a status; use {', '.join(STATUSES)}")
    if limit is not None and limit < 1:
        raise ValueError(f"limit={limit}: it must be at least 1")
    return Listing(
        statuses,
        filter_of((), labels, namespace, pipeline),
        when(since) if since is not None else None,
        limit,
    )


def list_records(keys: Keys, wanted: Listing) -> Operation[None]:
    """Gives records. Raises Unavailable or Refused.

    An evaluation that changes while the list is read may be missing. A member of the index whose record has expired is
    skipped.
    """
    yield Ready()
    lowest = "-inf"
    if wanted.since is not None:
        now = (yield from retry_once(clock)) if wanted.since.is_ago else 0.0
        lowest = wanted.since.place(now).partition("-")[0]
    left = float("inf") if wanted.limit is None else wanted.limit
    highest, passed = "+inf", 0
    while True:
        page = yield from retry_once(lambda: _page(keys, highest, lowest, passed))  # noqa: B023 - called at once
        ids = [eval_id for eval_id, _ in page]
        if wanted.statuses or wanted.filter.namespaces:
            # An event may be large: only records that can match are read whole.
            ids = yield from retry_once(lambda: _candidates(keys, wanted, ids))  # noqa: B023 - called at once
        for batch in batches(ids):
            for record in (yield from _records(keys, wanted, batch)):
                yield Give(record)
                left -= 1
                if not left:
                    return
        if len(page) < PAGE:
            return
        last = page[-1][1]
        # Members of one score may span pages: the next page begins behind those that were read.
        passed = sum(score == last for _, score in page) + (passed if last == highest else 0)
        highest = last


def _page(keys: Keys, highest: str, lowest: str, passed: int) -> Operation[list[tuple[str, str]]]:
    """Ids and scores. Raises what redis-py raises."""
    order = ("BYSCORE", "REV", "LIMIT", passed, PAGE, "WITHSCORES")
    reply = yield Call(("ZRANGE", keys.index, highest, lowest, *order))
    pairs = reply if reply and isinstance(reply[0], list | tuple) else zip(reply[::2], reply[1::2], strict=True)
    return [(text(eval_id), text(score)) for eval_id, score in pairs]


def _records(keys: Keys, wanted: Listing, eval_ids: list[str]) -> Operation[list[Record]]:
    records = yield from retry_once(lambda: read_many(keys, eval_ids, skip_other_types=True))
    return [record for record in records if wanted.has(record)]


def _candidates(keys: Keys, wanted: Listing, ids: list[str]) -> Operation[list[str]]:
    replies: list[Any] = yield Pipeline(
        tuple(Call(("HMGET", keys.evaluation(one), "status", "namespace")) for one in ids)
    )
    fields = checked_replies(replies, skip_other_types=True)
    return [one for one, of in zip(ids, fields, strict=True) if of and wanted.may_have(text(of[0]), text(of[1]))]
