"""The operations of both clients; arguments are checked here."""

import itertools
import os
import socket
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from jobcast.client.effects import ConnectionReport, FeedState, Operation
from jobcast.client.follow import check_position, follow
from jobcast.client.group import END_OF_STREAM, START_OF_STREAM, GroupReader, Membership
from jobcast.client.listing import Listing, list_records
from jobcast.client.live import check_statuses, live
from jobcast.client.log import LogFeedState, read_log
from jobcast.client.log_selector import LogSelector, checked
from jobcast.client.record import Record, get, ping
from jobcast.client.waiting import End, wait, wait_all
from jobcast.keys import Keys

MONTH = 2_592_000.0

_readers = itertools.count(1)


FeedSpec: TypeAlias = tuple[Operation[None], FeedState]
"""An operation that gives items, and its state."""
LogFeedSpec: TypeAlias = tuple[Operation[None], LogFeedState]
"""The same for a log; the state says which log it is."""


class Operations:
    """Invalid arguments raise ValueError at once, not at the first item."""

    def __init__(self, keys: Keys, report: ConnectionReport) -> None:
        self._keys = keys
        self._report = report

    def events(self, statuses: tuple[str, ...], progress: bool) -> FeedSpec:
        state = FeedState(self._report)
        return live(self._keys, check_statuses(statuses), progress, state), state

    def follow(self, since: str) -> FeedSpec:
        state = FeedState(self._report)
        return follow(self._keys.events, check_position(since), state), state

    def stream(
        self,
        group: str,
        consumer: str | None,
        start: str,
        auto_ack: bool,
        batch: int,
        claim_after: float,
        carry_out: Callable[[Operation[None]], Any],
    ) -> FeedSpec:
        if not group or consumer == "":
            raise ValueError("group and consumer must not be empty")
        if start not in (START_OF_STREAM, END_OF_STREAM):
            raise ValueError(f"start={start!r}: use '0' (all entries) or '$' (new entries)")
        if batch < 1:
            raise ValueError(f"batch={batch}: it must be at least 1")
        if not 0 < claim_after < MONTH:
            raise ValueError(f"claim_after={claim_after:g}: it must be more than 0 seconds and less than a month")
        of = Membership(
            self._keys.events, group, consumer or unique_consumer_name(), start, batch, claim_after, auto_ack
        )
        state = FeedState(self._report)
        return GroupReader(of, state, carry_out).run(), state

    def ping(self) -> Operation[None]:
        return ping()

    def get(self, eval_id: str) -> Operation[Record | None]:
        return get(self._keys, eval_id)

    def list(self, wanted: Listing) -> FeedSpec:
        return list_records(self._keys, wanted), FeedState(self._report)

    def log(self, eval_id: str, which: LogSelector) -> LogFeedSpec:
        about = LogFeedState(self._report)
        return read_log(self._keys, eval_id, checked(which), about), about

    def wait(self, eval_id: str, timeout: float | None) -> Operation[End]:
        return wait(self._keys, eval_id, timeout, FeedState(self._report))

    def wait_all(self, eval_ids: Iterable[str], timeout: float | None) -> FeedSpec:
        state = FeedState(self._report)
        return wait_all(self._keys, eval_ids, timeout, state), state


def unique_consumer_name() -> str:
    """A unique consumer name. In a Pod it is the same after a restart of the container."""
    return f"{socket.gethostname()}-{os.getpid()}-{next(_readers)}"
