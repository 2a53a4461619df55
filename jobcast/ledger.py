"""The only writer in Redis: what was told of each Job, told once.

A step is one Lua script, one round trip: decide, record, append to the stream, publish. Steps of different Jobs that are
due at the same time share a round trip. While Redis is away every caller waits here, and the first answer releases them
all; nobody else retries Redis.
"""

import asyncio
import contextlib
import hashlib
import secrets
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from importlib.resources import files
from typing import Any

import msgspec
import redis
import redis.asyncio

from jobcast.connection import ERRORS, explain
from jobcast.event import PENDING, TERMINAL
from jobcast.keys import Keys
from jobcast.pipe import Pipe

SCRIPT = files("jobcast").joinpath("ledger.lua").read_text()
SHA = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()

BATCH = 256
"""Commands in one round trip: enough to share its cost, few enough that none waits long behind the others."""
PROBE_SECONDS = (0.05, 0.5)
"""First and longest pause between probes while Redis is away: back within half a second, at two probes a second."""
CLAIM_SECONDS = 5.0
"""How long a claim outlives the replica that took it: what a crash may cost the Jobs whose logs it was reading."""
ENDED = "ended"
"""In place of an event's id: the Job has its end."""
LOST = (
    "OOM",
    "READONLY",
    "NOAUTH",
    "WRONGPASS",
    "LOADING",
    "MISCONF",
    "NOREPLICAS",
    "CLUSTERDOWN",
    "MASTERDOWN",
    "NOPERM",
)
"""Refusals that are about Redis and not about the command: wait, do not give the Job up."""


class LedgerError(Exception):
    """Redis refused this one command: a key of ours has another type, or somebody wrote into it."""


class Answer(StrEnum):
    TOLD = "told"
    SEEN = "seen"
    """Recorded, nothing to tell yet."""
    DUPLICATE = "duplicate"
    """It was told before."""
    STALE = "stale"
    """Something newer was told."""
    ENDED = "ended"
    """The Job has its end; nothing follows it."""


class Telling(msgspec.Struct, frozen=True, gc=False):
    """An event ready for the wire."""

    id: str
    status: str
    body: bytes


class Step(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the ledger is asked to tell of one Job: the last telling is the target, those before it come only with it."""

    uid: str
    version: int
    created: float
    """Unix seconds; which Job of an evaluation is the newest."""
    eval_id: str
    namespace: str
    name: str
    status: str
    tellings: tuple[Telling, ...] = ()


class Told(msgspec.Struct, frozen=True, gc=False):
    """The ledger's answer."""

    answer: Answer
    status: str
    """Of the Job's row now."""
    count: int
    """How many events this step told."""


class Row(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the ledger remembers of a Job."""

    uid: str
    status: str
    version: int
    eval_id: str
    namespace: str
    name: str
    created: float

    @property
    def is_ended(self) -> bool:
        return self.status in TERMINAL


_ROW = ("status", "version", "eval_id", "namespace", "name", "created")
_Call = tuple[tuple[Any, ...], "asyncio.Future[Any]"]


class Ledger:
    """Use as an async context manager; the client stays the caller's.

    `forgot` is called when Redis may have lost what it had acknowledged: its epoch is gone or another one, or it was
    away. Everything the API server shows is then to be reconciled again.
    """

    def __init__(
        self,
        client: "redis.asyncio.Redis",
        keys: Keys,
        *,
        identity: str = "",
        retention: int = 604_800,
        stream_length: int = 1_000_000,
        forgot: Callable[[str], None] = lambda reason: None,
        trouble: Callable[[str | None], None] = lambda reason: None,
    ) -> None:
        self.keys = keys
        self.identity = identity or secrets.token_hex(8)
        """Who holds the claims that this ledger takes."""
        self.trouble: str | None = "not asked yet"
        """Why Redis cannot be used now; None while it can."""
        self.epoch: str | None = None
        self._pipe = Pipe(client)
        self._retention = retention
        self._stream_length = stream_length
        self._forgot = forgot
        self._on_trouble = trouble
        self._calls: deque[_Call] = deque()
        self._wake = asyncio.Event()

    async def __aenter__(self) -> "Ledger":
        self._task = asyncio.create_task(self._flush(), name="ledger")
        return self

    async def __aexit__(self, *_: object) -> None:
        # Again and again: in Python 3.11 the wait_for that redis-py sends with may swallow a cancellation as it ends.
        while not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task], timeout=0.1)
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        for _, future in self._calls:
            future.cancel()
        await self._pipe.close()

    async def step(self, step: Step) -> Told:
        """Tell what is new. Waits while Redis is away. Raises LedgerError."""
        keys = self.keys
        arguments: list[Any] = [
            step.uid,
            step.version,
            secrets.token_hex(8),
            self._retention,
            self._stream_length,
            step.created,
            step.eval_id,
            step.namespace,
            step.name,
            step.status,
        ]
        for telling in step.tellings:
            arguments += (telling.id, telling.status, keys.channel(telling.status), telling.body)
        names = (keys.job(step.uid), keys.open, keys.events, keys.evaluation(step.eval_id), keys.epoch)
        answer, status, epoch, count = await self._run("EVALSHA", SHA, len(names), *names, *arguments)
        self._see_epoch(_text(epoch) or None)
        return Told(Answer(_text(answer)), _text(status), int(count))

    async def row(self, uid: str) -> Row | None:
        """What was told of the Job; None for one that the ledger does not know."""
        values = await self._run("HMGET", self.keys.job(uid), *_ROW)
        return _row(uid, values)

    async def rows(self, uids: Iterable[str]) -> dict[str, Row]:
        """The rows there are, of all these Jobs, in shared round trips."""
        rows = await asyncio.gather(*map(self.row, uids))
        return {row.uid: row for row in rows if row is not None}

    async def open_uids(self) -> list[str]:
        """The Jobs that have no end yet, as far as the ledger knows, of all who share the prefix."""
        return [_text(uid) for uid in await self._run("ZRANGE", self.keys.open, 0, -1)]

    async def forget_open(self, uid: str) -> None:
        """Take out of the open ones a Job whose row is gone: nobody can say any more what it was."""
        await self._run("ZREM", self.keys.open, uid)

    async def keep(self, uids: Sequence[str]) -> None:
        """Have the rows of these ended Jobs outlive the Jobs: the API server still shows them."""
        await asyncio.gather(*(self._run("EXPIRE", self.keys.job(uid), self._retention) for uid in uids))

    async def trim(self, max_age: float) -> None:
        """Drop stream entries older than `max_age` seconds, by the clock of Redis."""
        seconds, _ = await self._run("TIME")
        await self._run("XTRIM", self.keys.events, "MINID", "~", f"{int((float(seconds) - max_age) * 1000)}-0")

    async def claim(self, uid: str) -> bool:
        """Take, or renew, the right to read this Job's logs; False while another replica has it."""
        key, millis = self.keys.claim(uid), int(CLAIM_SECONDS * 1000)
        if await self._run("SET", key, self.identity, "NX", "PX", millis):
            return True
        if _text(await self._run("GET", key)) != self.identity:
            return False
        return bool(await self._run("PEXPIRE", key, millis))

    async def release(self, uids: Iterable[str]) -> None:
        """Give claims of ours back, so that nobody has to wait for them to lapse."""
        for uid in uids:
            key = self.keys.claim(uid)
            if _text(await self._run("GET", key)) == self.identity:  # it may have lapsed, and be another's by now
                await self._run("DEL", key)

    async def is_empty(self) -> bool:
        """Whether nothing was ever told in this Redis, so that nothing need be recalled from it."""
        return await self._run("GET", self.keys.epoch) is None

    async def told(self, uids: Sequence[str]) -> dict[str, str]:
        """What was told last of those of these Jobs that the ledger knows: PENDING, the id of the event, or ENDED."""
        answers = await asyncio.gather(
            *(self._run("HMGET", self.keys.job(uid), "status", "running", "suspended") for uid in uids)
        )
        found = {}
        for uid, (status, running, suspended) in zip(uids, answers, strict=True):
            if status is not None:
                last = {"running": running, "suspended": suspended}.get(_text(status))
                found[uid] = ENDED if _text(status) in TERMINAL else _text(last) if last else PENDING
        return found

    async def store_log(self, uid: str, pod: str, container: str, data: bytes) -> str:
        """Keep a log's bytes, compressed, as long as the record; returns where, for `log.ref`."""
        key = self.keys.log(uid, pod, container)
        await self._run("SET", key, compressed(data), "EX", self._retention)
        return f"redis:{key}"

    async def watch_epoch(self, every: float = 1.0) -> None:
        """Ask every so many seconds whether Redis is there and still remembers. Never ends; to be run as a task."""
        while True:
            epoch = await self._run("GET", self.keys.epoch)
            self._see_epoch(_text(epoch) if epoch is not None else None)
            await asyncio.sleep(every)

    def _see_epoch(self, epoch: str | None) -> None:
        known, self.epoch = self.epoch, epoch
        if known is not None and epoch != known:
            self._forgot("epoch")

    async def _run(self, *command: Any) -> Any:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._calls.append((command, future))
        self._wake.set()
        return await future

    async def _flush(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._calls:
                batch = [self._calls.popleft() for _ in range(min(BATCH, len(self._calls)))]
                batch = [call for call in batch if not call[1].done()]  # whoever asked has given up
                if not batch:
                    continue
                try:
                    again = await self._send(batch)
                except BaseException:  # we are closed: nobody is to wait for what was under way
                    for _, future in batch:
                        future.cancel()
                    raise
                if again:
                    self._calls.extendleft(reversed(again))
                    await self._wait_until_back()

    async def _send(self, batch: list[_Call]) -> list[_Call]:
        """Send the batch and hand out its answers; returns the calls that Redis could not take."""
        try:
            answers = await self._pipe.exchange([command for command, _ in batch])
            missing = [i for i, answer in enumerate(answers) if isinstance(answer, redis.exceptions.NoScriptError)]
            if missing:
                again = [("SCRIPT", "LOAD", SCRIPT), *(batch[i][0] for i in missing)]
                loaded, *others = await self._pipe.exchange(again)
                for i, answer in zip(missing, others, strict=True):
                    answers[i] = loaded if isinstance(loaded, Exception) else answer
        except ERRORS as error:
            self._set_trouble(explain(error))
            return batch
        refused = []
        for call, answer in zip(batch, answers, strict=True):
            future = call[1]
            if future.done():
                continue
            if not isinstance(answer, Exception):
                future.set_result(answer)
            elif _is_about_redis(answer):
                self._set_trouble(explain(answer))
                refused.append(call)
            else:
                future.set_exception(LedgerError(f"{call[0][0]}: {explain(answer)}"))
        if not refused:
            self._set_trouble(None)
        return refused

    async def _wait_until_back(self) -> None:
        pause, longest = PROBE_SECONDS
        while True:
            await asyncio.sleep(pause)
            pause = min(pause * 2, longest)
            try:
                # A write: a Redis that is full, read-only or cannot save answers PING gladly.
                (answer,) = await self._pipe.exchange([("SET", self.keys.claim("probe"), self.identity, "PX", 1000)])
            except ERRORS as error:
                answer = error
            if not isinstance(answer, Exception):
                self._forgot("away")
                return
            self._set_trouble(explain(answer))

    def _set_trouble(self, trouble: str | None) -> None:
        if trouble != self.trouble:
            self.trouble = trouble
            self._on_trouble(trouble)


def compressed(data: bytes) -> bytes:
    """zstd, level 3: its default, 200 MB/s and more on text."""
    import zstandard  # only where logs are stored: the client does without it

    return bytes(zstandard.compress(data))


def _is_about_redis(error: Exception) -> bool:
    if isinstance(
        error, (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, redis.exceptions.ReadOnlyError)
    ):
        return True
    text = explain(error)  # which has the code that redis-py takes off
    return any(word in text for word in LOST)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value or "")


def _row(uid: str, values: list[bytes | None]) -> Row | None:
    status, version, eval_id, namespace, name, created = map(_text, values)
    if not status:
        return None
    try:
        return Row(
            uid=uid,
            status=status,
            version=int(version or 0),
            eval_id=eval_id,
            namespace=namespace,
            name=name,
            created=float(created or 0),
        )
    except ValueError as error:
        raise LedgerError(f"row {uid}: {error}") from error
