"""A durable consumer, as a user writes one; and the ledger's content, read directly from Redis.

`client` is Any where redis-py's types allow for replies that it never gives.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import redis
import redis.asyncio

from chaos.verdict import PublishedEvent, Recorded
from jobcast.client import AsyncClient
from jobcast.event import Event
from jobcast.keys import Keys

KEYS = Keys()
GROUP = "chaos"
CONSUMER = "reader"
AGAIN_SECONDS = 0.2


class _Ref(msgspec.Struct):
    uid: str


class _Log(msgspec.Struct):
    state: str
    reason: str | None = None
    sha256: str | None = None
    bytes: int = 0


class _Attempt(msgspec.Struct):
    exit_code: int | None = None


class _Job(msgspec.Struct):
    id: str
    status: str
    job: _Ref
    exit_code: int | None = None
    log: _Log | None = None
    output: str | None = None
    attempts: list[_Attempt] | None = None


class Reader:
    """Reads the stream with its own group, and records each id when its work is done."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.received: dict[str, float] = {}
        """By the event's id, when it came first."""
        self.by_job: dict[str, set[str]] = {}
        """By the Job's uid, the statuses that came."""
        self.entries = 0
        self.redelivered = 0
        self.errors: list[str] = []
        """With which reading ended, as it never should."""
        self._task: asyncio.Task[None] | None = None
        self._crash = asyncio.Event()

    def start(self) -> None:
        self._task = asyncio.create_task(self._read_on(), name="reader")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _read_on(self) -> None:
        while True:
            try:
                async with AsyncClient(self._url, trouble=lambda _: None) as client:
                    async for entry in client.stream(GROUP, CONSUMER, claim_after=20):
                        self._take(entry.event, entry.is_redelivered)
            except Exception as error:  # whatever it is, it is to be published, and reading goes on
                self.errors.append(f"{type(error).__name__}: {error}")
            await asyncio.sleep(AGAIN_SECONDS)

    def _take(self, event: Event, is_redelivered: bool) -> None:
        self.entries += 1
        self.redelivered += is_redelivered
        self.received.setdefault(event.id, time.monotonic())
        self.by_job.setdefault(event.job.uid, set()).add(event.status.value)


async def life(client: Any) -> list[PublishedEvent]:
    """Every entry of the stream, in order."""
    found: list[PublishedEvent] = []
    after = "-"
    # What this machine's clocks differ by: the entries' names have the one, all else here goes by the other.
    ahead = time.time() - time.monotonic()
    while True:
        page = await client.xrange(KEYS.events, after, "+", count=1000)
        for entry, fields in page:
            found.append(_published(entry.decode(), msgspec.json.decode(fields[b"event"], type=_Job), ahead))
        if not page:
            return found
        after = f"({page[-1][0].decode()}"


def _published(name: str, event: _Job, ahead: float) -> PublishedEvent:
    log = event.log or _Log("")
    return PublishedEvent(
        entry=name,
        id=event.id,
        status=event.status,
        uid=event.job.uid,
        exit_code=event.exit_code,
        log_sha256=(log.sha256 or "none") if log.state == "complete" else None,
        log_reason=log.reason or "",
        log_bytes=log.bytes,
        output=event.output or "",
        attempt_codes=tuple(attempt.exit_code for attempt in event.attempts or ()),
        at=int(name.partition("-")[0]) / 1000 - ahead,
    )


async def records(client: redis.asyncio.Redis, names: Iterable[str]) -> dict[str, Recorded]:
    pipe = client.pipeline(transaction=False)
    wanted = list(names)
    for name in wanted:
        pipe.hmget(KEYS.evaluation(name), "uid", "status", "event")
    found = {}
    for name, (uid, status, event) in zip(wanted, await pipe.execute(), strict=True):
        if uid is not None:
            latest = msgspec.json.decode(event, type=_Job).id if event else ""
            found[name] = Recorded(uid.decode(), (status or b"").decode(), latest)
    return found


async def open_uids(client: Any) -> list[str]:
    return [uid.decode() for uid in await client.zrange(KEYS.open, 0, -1)]


async def is_known(client: redis.asyncio.Redis, uid: str) -> bool:
    return bool(await client.exists(KEYS.job(uid)))


async def behind(client: redis.asyncio.Redis) -> int:
    """How many entries some group has not read, or not acknowledged."""
    groups = await client.xinfo_groups(KEYS.events)
    return sum(int(group["pending"]) + int(group["lag"] or 0) for group in groups)


async def until(check: Callable[[], object], seconds: float, every: float = 0.25) -> bool:
    """Whether the check (plain or async) came true within so many seconds. What Redis raises counts as false."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(redis.RedisError, OSError):
            found = check()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return True
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(every)
