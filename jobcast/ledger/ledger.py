"""The only publisher of events: publishes each fact once, and records what was published.

A step is one Lua script, one round trip: decide, record, append to the stream, publish. Steps of different Jobs that are
due at the same time share a round trip (jobcast.redis.batcher, which also waits while Redis is unreachable).
"""

import asyncio
import hashlib
import secrets
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from importlib.resources import files
from typing import Any

import msgspec
import redis.asyncio

from jobcast.event import MAX_EVAL_ID_BYTES, PENDING, TERMINAL
from jobcast.keys import Keys
from jobcast.redis.batcher import Batcher, LedgerError

SCRIPT = files("jobcast.ledger").joinpath("ledger.lua").read_text()
SHA = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()

CLAIM_SECONDS = 5.0
"""How long a claim outlives its replica: a crash delays the Jobs whose logs it was reading by so much."""
AT_ONCE = 1024
"""Commands of one request that wait for Redis together: enough for full round trips, and a hundred thousand Jobs need no more
memory than a thousand while Redis is unreachable."""
ENDED = "ended"
"""In place of an event's id: the Job's end is published."""


class Answer(StrEnum):
    PUBLISHED = "published"
    SEEN = "seen"
    """Recorded, nothing to publish yet."""
    DUPLICATE = "duplicate"
    """It had been published before."""
    STALE = "stale"
    """Something newer had been published."""
    ENDED = "ended"
    """The Job's end had been published; nothing follows it."""


PROGRESS = "progress"
"""In place of a status: published once, and not recorded as a status."""


class Renamed(LedgerError):
    """The Job is recorded as another evaluation than the step's, which stays."""

    def __init__(self, eval_id: str) -> None:
        super().__init__(f"the Job is recorded as evaluation {eval_id!r}")
        self.eval_id = eval_id


class Outgoing(msgspec.Struct, frozen=True, gc=False):
    """An event ready for the wire."""

    id: str
    status: str
    """A Status, or PROGRESS."""
    body: bytes


class Step(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What to publish of one Job. The last status is the target; the ones before it are published only together with it."""

    uid: str
    version: int
    created: float
    """Unix seconds; which Job of an evaluation is the newest."""
    eval_id: str
    namespace: str
    name: str
    status: str
    outgoing: tuple[Outgoing, ...] = ()
    fields: dict[str, bytes] = {}
    """Of the evaluation's record; an empty value removes one."""
    suspension: str = ""
    """What is to be remembered of the Job's last suspension."""
    keeps_eval_id: bool = False
    """Raises Renamed, and publishes nothing, if the Job is recorded as another evaluation."""


class StepResult(msgspec.Struct, frozen=True, gc=False):
    answer: Answer
    status: str
    """The Job's, as recorded now."""
    count: int
    """How many events this step published, without progress."""


class Recalled(msgspec.Struct, frozen=True, gc=False):
    """What the ledger has recorded of a Job, for who begins to look at it."""

    last_published: str
    """PENDING, the id of the event, or ENDED."""
    eval_id: str
    suspension: str


class Row(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the ledger has recorded of a Job."""

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


# In one step with the look at its row: another replica's step may open the Job just now.
_FORGET_OPEN = """
local status = redis.call('HGET', KEYS[2], 'status')
local is_over = not status
for i = 2, #ARGV do is_over = is_over or status == ARGV[i] end
if is_over then redis.call('ZREM', KEYS[1], ARGV[1]) end
"""
_ROW = ("status", "version", "eval_id", "namespace", "name", "created")


class Ledger:
    """Use as an async context manager; the client stays the caller's.

    `on_data_loss` is called, with the reason, when Redis may have lost acknowledged writes: its epoch is missing or another one,
    or it was unreachable. Then everything that the API server shows must be reconciled again. `on_error` is called with why
    Redis cannot be used now, and with None when it can be used again.
    """

    def __init__(
        self,
        client: "redis.asyncio.Redis",
        keys: Keys,
        *,
        identity: str = "",
        retention: int = 604_800,
        on_data_loss: Callable[[str], None] = lambda reason: None,
        on_error: Callable[[str | None], None] = lambda error: None,
    ) -> None:
        self.keys = keys
        self.identity = identity or secrets.token_hex(8)
        """The holder of the claims that this ledger takes."""
        self.epoch: str | None = None
        self._batcher = Batcher(
            client,
            script=SCRIPT,
            probe=("SET", keys.claim("probe"), self.identity, "PX", 1000),
            on_recovered=lambda: on_data_loss("unreachable"),
            on_error=on_error,
        )
        self.run = self._batcher.run
        """Runs one command in a shared round trip. Waits while Redis is unreachable."""
        self.retention = retention
        """Seconds that rows and records outlive the Job's end."""
        self._on_data_loss = on_data_loss

    async def __aenter__(self) -> "Ledger":
        self._batcher.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._batcher.close()

    @property
    def error(self) -> str | None:
        """Why Redis cannot be used now."""
        return self._batcher.error

    @property
    def is_down(self) -> bool:
        """The last round trip failed: every call waits."""
        return self._batcher.is_down

    @property
    def waiting(self) -> int:
        """Commands that wait for Redis, or for the next round trip."""
        return self._batcher.waiting

    async def step(self, step: Step) -> StepResult:
        """Publish what is new. Waits while Redis is unreachable. Raises Renamed and other LedgerErrors."""
        keys = self.keys
        arguments: list[Any] = [
            step.uid,
            step.version,
            secrets.token_hex(8),
            self.retention,
            step.created,
            step.eval_id,
            step.namespace,
            step.name,
            step.status,
            len(step.outgoing),
            step.suspension,
            int(step.keeps_eval_id),
        ]
        keeps = len(arguments) - 1
        for one in step.outgoing:
            arguments += (one.id, one.status, keys.channel(one.status), one.body)
        for name, value in step.fields.items():
            arguments += (name, value)
        names = (keys.job(step.uid), keys.open, keys.events, keys.evaluation(step.eval_id), keys.epoch, keys.index)
        answer, status, epoch, count = await self.run("EVALSHA", SHA, len(names), *names, *arguments)
        if _text(answer) == "renamed":
            if is_usable_id(status):
                raise Renamed(_text(status))
            arguments[keeps] = 0  # somebody else wrote into the row
            answer, status, epoch, count = await self.run("EVALSHA", SHA, len(names), *names, *arguments)
        self._see_epoch(_text(epoch) or None)
        return StepResult(Answer(_text(answer)), _text(status), int(count))

    async def row(self, uid: str) -> Row | None:
        """None for a Job that the ledger does not know."""
        return _row(uid, await self.run("HMGET", self.keys.job(uid), *_ROW))

    async def rows(self, uids: Sequence[str]) -> dict[str, Row | None]:
        """The rows of these Jobs, in shared round trips, without those that Redis rejects."""
        answers = await self._answers([("HMGET", self.keys.job(uid), *_ROW) for uid in uids])
        return {uid: _row(uid, answer) for uid, answer in zip(uids, answers, strict=True) if answer is not None}

    async def open_uids(self) -> list[str]:
        """The Jobs without an end, of all installations with this prefix."""
        return [_text(uid) for uid in await self.run("ZRANGE", self.keys.open, 0, -1)]

    async def forget_open(self, uid: str) -> None:
        """Remove a Job from the open ones, if it has its end or no row."""
        await self.run("EVAL", _FORGET_OPEN, 2, self.keys.open, self.keys.job(uid), uid, *TERMINAL)

    async def keep(self, uids: Sequence[str]) -> None:
        """Let the rows of these ended Jobs live longer: the API server still has the Jobs."""
        await self._answers([("EXPIRE", self.keys.job(uid), self.retention) for uid in uids])

    async def claim(self, uid: str) -> bool:
        """Take or renew the claim on this Job's logs; False while another replica has it."""
        key, millis = self.keys.claim(uid), int(CLAIM_SECONDS * 1000)
        if await self.run("SET", key, self.identity, "NX", "PX", millis):
            return True
        if await self._holder(key) != self.identity:
            return False
        return bool(await self.run("PEXPIRE", key, millis))

    async def release(self, uids: Iterable[str]) -> None:
        """Release our claims, so that no replica waits for them to expire."""
        for uid in uids:
            key = self.keys.claim(uid)
            if await self._holder(key) == self.identity:  # it may have expired, and be another's by now
                await self.run("DEL", key)

    async def _holder(self, key: str) -> str | None:
        try:
            return _text(await self.run("GET", key))
        except LedgerError:
            # Another type of key: no claim of ours, and no reason to fail those on other Jobs.
            return None

    async def is_empty(self) -> bool:
        """Whether nothing was ever published in this Redis."""
        return await self.run("GET", self.keys.epoch) is None

    async def recall(self, uids: Sequence[str]) -> dict[str, Recalled]:
        """What was published last. Without the Jobs that the ledger does not know, and those whose row Redis rejects: their own
        step will raise the reason."""
        names = ("status", "running", "suspended", "eval_id", "suspension")
        answers = await self._answers([("HMGET", self.keys.job(uid), *names) for uid in uids])
        found = {}
        for uid, answer in zip(uids, answers, strict=True):
            if answer is not None and answer[0] is not None:
                status, running, suspended, eval_id, suspension = answer
                last = {"running": running, "suspended": suspended}.get(_text(status))
                published = ENDED if _text(status) in TERMINAL else _text(last) if last else PENDING
                found[uid] = Recalled(published, _text(eval_id) if is_usable_id(eval_id) else "", _text(suspension))
        return found

    async def watch_epoch(self, every: float = 1.0) -> None:
        """Check every so many seconds whether Redis is reachable and has lost nothing. Never ends; run it as a task."""
        while True:
            epoch = await self.run("GET", self.keys.epoch)
            self._see_epoch(_text(epoch) if epoch is not None else None)
            await asyncio.sleep(every)

    async def _answers(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """None for a command that Redis rejects: one key of another type must not affect the others."""

        async def answer(command: tuple[Any, ...]) -> Any:
            try:
                return await self.run(*command)
            except LedgerError:
                return None

        answers = []
        for start in range(0, len(commands), AT_ONCE):
            answers += await asyncio.gather(*map(answer, commands[start : start + AT_ONCE]))
        return answers

    def _see_epoch(self, epoch: str | None) -> None:
        known, self.epoch = self.epoch, epoch
        if known is not None and epoch != known:
            self._on_data_loss("epoch")


def _text(value: Any) -> str:
    # Others may write to Redis: what is not text must not affect anything else.
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value or "")


def is_usable_id(value: bytes | None) -> bool:
    """Whether a row's eval_id can be one that Jobcast wrote: UTF-8 of a sane length."""
    return bool(value) and len(value or b"") <= MAX_EVAL_ID_BYTES and "\ufffd" not in _text(value)


_DIGITS = 20
"""Of a version; int() refuses text that is far too long."""
_END_OF_TIME = 253_402_300_800.0
"""The year 10000, the first that datetime cannot represent."""


def _row(uid: str, values: list[bytes | None]) -> Row | None:
    status, version, eval_id, namespace, name, created = map(_text, values)
    if not status:
        return None
    return Row(
        uid=uid,
        status=status,
        version=int(version) if version.isascii() and version.isdecimal() and len(version) < _DIGITS else 0,
        eval_id=eval_id,
        namespace=namespace,
        name=name,
        created=_seconds(created),
    )


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        return 0.0
    return seconds if 0 <= seconds < _END_OF_TIME else 0.0
