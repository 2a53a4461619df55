"""What an entry is handed to, and how a run of it ends."""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from jobcast.backoff import pause
from jobcast.event import Event, Status

MAX_RETRIES = 3
BACKOFF_SECONDS = (1.0, 600.0)
"""The first and the longest pause before a retry."""


class Place(Enum):
    """Where a target runs."""

    HERE = "h"
    """In this process; it takes one of its slots."""
    ELSEWHERE = "s"
    """It is sent to another system and takes one of the sending places. If `run` returns SENT, some process begins it later."""


class Ended(Enum):
    """How `run` ended."""

    DONE = "done"
    SENT = "sent"
    """A broker has it. Whoever gets the message hands it to `Engine.offer`."""
    LOST = "lost"
    """Its process died, or its time limit passed: the try counts, and it is handed out again, alone in its process."""
    BACK = "back"
    """It did not begin: the try does not count, and whoever is free takes it."""


class Refused(Exception):
    """It can never be handed over; the text says why. It becomes a dead letter at once."""


class Retry(Exception):
    """The target asks for another try in so many seconds. The try counts."""

    def __init__(self, seconds: float, reason: str = "", traceback: str | None = None) -> None:
        """`traceback` is of what failed, if that was elsewhere."""
        super().__init__(reason)
        self.seconds = seconds
        self.traceback = traceback


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a run that failed is repeated, and how soon."""

    max_retries: int = MAX_RETRIES
    """Runs after the first."""
    bounds: tuple[float, float] = BACKOFF_SECONDS
    """Seconds before the first retry, doubled for each further one, and the longest."""
    has_jitter: bool = True
    """Each pause is shortened at random, to no less than half, so that what failed together is not retried together."""

    def pause(self, tries: int) -> float:
        return pause(tries, self.bounds, has_jitter=self.has_jitter)


@dataclass(frozen=True, slots=True)
class Delivery:
    """One run of one target."""

    entry: str
    """Its id in the stream of events, or `replay:<id>` or `signal:<id>`."""
    key: str
    """The hash of its ordering key."""
    target: str
    token: str
    """Random, of this run alone."""
    tries: int
    """Which run this is, from 1; for a target elsewhere, how many have begun so far."""
    lost: int
    """How many runs of it were lost with their process."""
    body: bytes
    event: Event


class Target(Protocol):
    """Wants some events, and is run with each of them until that has ended.

    `run` returns how it ended; raising Refused is a dead letter, and any other exception a failed try, repeated as `retry`
    says. It is cancelled when another run has taken its place or its `time_limit` (seconds) is over.
    """

    name: str
    statuses: AbstractSet[Status]
    place: Place
    retry: RetryPolicy
    rate: float
    """Runs per second of the whole group; 0 is without limit."""
    time_limit: float | None

    def wants(self, event: Event) -> bool: ...

    async def run(self, delivery: Delivery) -> Ended: ...
