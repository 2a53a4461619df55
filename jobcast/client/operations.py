"""What both clients can do, as programs for them to carry out."""

import itertools
import os
import socket
from collections.abc import Callable
from typing import Any, TypeAlias

from jobcast.client.effects import Health, Program, Report
from jobcast.client.follow import follow, place
from jobcast.client.group import END_OF_STREAM, START_OF_STREAM, GroupReader, Membership
from jobcast.client.live import live, wanted
from jobcast.client.log import LogHealth, read_log
from jobcast.client.log_selector import LogSelector, checked
from jobcast.client.record import Record, get, ping
from jobcast.client.waiting import End, wait
from jobcast.keys import Keys

MONTH = 2_592_000.0

_readers = itertools.count(1)


Course: TypeAlias = tuple[Program[None], Health]
"""A program that gives, and how it fares."""
LogCourse: TypeAlias = tuple[Program[None], LogHealth]
"""The same, and which log it gives."""


class Programs:
    """Arguments that make no sense raise ValueError at once, not at the first item."""

    def __init__(self, keys: Keys, report: Report) -> None:
        self._keys = keys
        self._report = report

    def events(self, statuses: tuple[str, ...], progress: bool) -> Course:
        health = Health(self._report)
        return live(self._keys, wanted(statuses), progress, health), health

    def follow(self, since: str) -> Course:
        health = Health(self._report)
        return follow(self._keys.events, place(since), health), health

    def stream(
        self,
        group: str,
        consumer: str | None,
        start: str,
        auto_ack: bool,
        batch: int,
        claim_after: float,
        carry_out: Callable[[Program[None]], Any],
    ) -> Course:
        if not group or consumer == "":
            raise ValueError("a group and its consumers need names")
        if start not in (START_OF_STREAM, END_OF_STREAM):
            raise ValueError(f"start={start!r}: a new group starts at '0' (all that is kept) or '$' (what comes)")
        if batch < 1:
            raise ValueError(f"batch={batch}: at least 1 entry is read at a time")
        if not 0 < claim_after < MONTH:
            raise ValueError(f"claim_after={claim_after:g}: it must be some seconds, more than 0 and less than a month")
        of = Membership(self._keys.events, group, consumer or own_name(), start, batch, claim_after, auto_ack)
        health = Health(self._report)
        return GroupReader(of, health, carry_out).run(), health

    def ping(self) -> Program[None]:
        return ping()

    def get(self, eval_id: str) -> Program[Record | None]:
        return get(self._keys, eval_id)

    def log(self, eval_id: str, which: LogSelector) -> LogCourse:
        about = LogHealth(self._report)
        return read_log(self._keys, eval_id, checked(which), about), about

    def wait(self, eval_id: str, timeout: float | None) -> Program[End]:
        return wait(self._keys, eval_id, timeout, Health(self._report))


def own_name() -> str:
    """A consumer's name that no other reader has. In a Pod it is the same again after the container's restart."""
    return f"{socket.gethostname()}-{os.getpid()}-{next(_readers)}"
