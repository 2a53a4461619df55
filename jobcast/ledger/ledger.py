"""The only writer in Redis: what was published about each Job, published once.

A step is one Lua script, one round trip: decide, record, append to the stream, publish. Steps of different Jobs that are
due at the same time share a round trip (jobcast.redis.batcher, which also waits while Redis is away).
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

from jobcast.event import PENDING, TERMINAL
from jobcast.keys import Keys
from jobcast.redis.batcher import Batcher, LedgerError

SCRIPT = files("jobcast.ledger").joinpath("ledger.lua").read_text()
SHA = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()

CLAIM_SECONDS = 5.0
"""How long a claim outlives the replica that took it: what a crash may cost the Jobs whose logs it was reading."""
AT_ONCE = 1024
"""Commands of one question that wait for Redis together: enough for full round trips, and a hundred thousand Jobs need no
more memory while Redis is away than a thousand."""
ENDED = "ended"
"""In place of an event's id: the Job has its end."""


class Answer(StrEnum):
    PUBLISHED = "published"
    SEEN = "seen"
    """Recorded, nothing to publish yet."""
    DUPLICATE = "duplicate"
    """It was published before."""
    STALE = "stale"
    """Something newer was published."""
    ENDED = "ended"
    """The Job has its end; nothing follows it."""


PROGRESS = "progress"
"""In place of a status: published once and nothing else."""


class Outgoing(msgspec.Struct, frozen=True, gc=False):
    """An event ready for the wire."""

    id: str
    status: str
    """A Status, or PROGRESS."""
    body: bytes


class Step(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the ledger is asked to publish of one Job: the last one that is no progress is the target, the statuses before it
    come only with it."""

    uid: str
    version: int
    created: float
    """Unix seconds; which Job of an evaluation is the newest."""
    eval_id: str
    namespace: str
    name: str
    status: str
    outgoing: tuple[Outgoing, ...] = ()
    life: dict[str, bytes] = {}
    """Fields of the evaluation's record; an empty value takes one out."""


class StepResult(msgspec.Struct, frozen=True, gc=False):
    """The ledger's answer."""

    answer: Answer
    status: str
    """Of the Job's row now."""
    count: int
    """How many events this step published, progress not counted."""


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


# At once with the look at its row: a step of another may open the Job just now.
_FORGET_OPEN = """
local status = redis.call('HGET', KEYS[2], 'status')
local is_over = not status
for i = 2, #ARGV do is_over = is_over or status == ARGV[i] end
if is_over then redis.call('ZREM', KEYS[1], ARGV[1]) end
"""
_ROW = ("status", "version", "eval_id", "namespace", "name", "created")


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
        forgot: Callable[[str], None] = lambda reason: None,
        trouble: Callable[[str | None], None] = lambda reason: None,
    ) -> None:
        self.keys = keys
        self.identity = identity or secrets.token_hex(8)
        """Who holds the claims that this ledger takes."""
        self.epoch: str | None = None
        self._batcher = Batcher(
            client,
            script=SCRIPT,
            probe=("SET", keys.claim("probe"), self.identity, "PX", 1000),
            on_recovered=lambda: forgot("away"),
            on_error=trouble,
        )
        self.run = self._batcher.run
        """The answer to one command, in a shared round trip; for the ledger's own rooms. Waits while Redis is away."""
        self.retention = retention
        """Seconds that rows and records outlive the Job's end."""
        self._forgot = forgot

    async def __aenter__(self) -> "Ledger":
        self._batcher.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._batcher.close()

    @property
    def trouble(self) -> str | None:
        """Why Redis cannot be used now; None while it can."""
        return self._batcher.error

    @property
    def is_down(self) -> bool:
        """Redis did not take what it was sent last: whoever asks it something waits."""
        return self._batcher.is_down

    @property
    def waiting(self) -> int:
        """How many commands wait for Redis, or for the next round trip."""
        return self._batcher.waiting

    async def step(self, step: Step) -> StepResult:
        """Publish what is new. Waits while Redis is away. Raises LedgerError."""
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
        ]
        for one in step.outgoing:
            arguments += (one.id, one.status, keys.channel(one.status), one.body)
        for name, value in step.life.items():
            arguments += (name, value)
        names = (keys.job(step.uid), keys.open, keys.events, keys.evaluation(step.eval_id), keys.epoch, keys.index)
        answer, status, epoch, count = await self.run("EVALSHA", SHA, len(names), *names, *arguments)
        self._see_epoch(_text(epoch) or None)
        return StepResult(Answer(_text(answer)), _text(status), int(count))

    async def row(self, uid: str) -> Row | None:
        """What was published about the Job; None for one that the ledger does not know."""
        values = await self.run("HMGET", self.keys.job(uid), *_ROW)
        return _row(uid, values)

    async def rows(self, uids: Sequence[str]) -> dict[str, Row | None]:
        """Those of these Jobs, in shared round trips; without the ones whose row is refused."""
        answers = await self._answers([("HMGET", self.keys.job(uid), *_ROW) for uid in uids])
        return {uid: _row(uid, answer) for uid, answer in zip(uids, answers, strict=True) if answer is not None}

    async def open_uids(self) -> list[str]:
        """The Jobs that have no end yet, as far as the ledger knows, of all who share the prefix."""
        return [_text(uid) for uid in await self.run("ZRANGE", self.keys.open, 0, -1)]

    async def forget_open(self, uid: str) -> None:
        """Take out of the open ones a Job that has its end, or whose row is gone: nobody can say any more what it was."""
        await self.run("EVAL", _FORGET_OPEN, 2, self.keys.open, self.keys.job(uid), uid, *TERMINAL)

    async def keep(self, uids: Sequence[str]) -> None:
        """Have the rows of these ended Jobs outlive the Jobs: the API server still shows them."""
        await self._answers([("EXPIRE", self.keys.job(uid), self.retention) for uid in uids])

    async def claim(self, uid: str) -> bool:
        """Take, or renew, the right to read this Job's logs; False while another replica has it."""
        key, millis = self.keys.claim(uid), int(CLAIM_SECONDS * 1000)
        if await self.run("SET", key, self.identity, "NX", "PX", millis):
            return True
        if await self._holder(key) != self.identity:
            return False
        return bool(await self.run("PEXPIRE", key, millis))

    async def release(self, uids: Iterable[str]) -> None:
        """Give claims of ours back, so that nobody has to wait for them to lapse."""
        for uid in uids:
            key = self.keys.claim(uid)
            if await self._holder(key) == self.identity:  # it may have lapsed, and be another's by now
                await self.run("DEL", key)

    async def _holder(self, key: str) -> str | None:
        try:
            return _text(await self.run("GET", key))
        except LedgerError:
            # A stranger's key in its place: no claim of ours, and no reason to drop those on other Jobs.
            return None

    async def is_empty(self) -> bool:
        """Whether nothing was ever published in this Redis, so that nothing need be recalled from it."""
        return await self.run("GET", self.keys.epoch) is None

    async def last_published(self, uids: Sequence[str]) -> dict[str, str]:
        """What was published last of those of these Jobs that the ledger knows: PENDING, the id of the event, or ENDED. One whose
        row is refused is not among them: its own step will say why."""
        answers = await self._answers([("HMGET", self.keys.job(uid), "status", "running", "suspended") for uid in uids])
        found = {}
        for uid, answer in zip(uids, answers, strict=True):
            if answer is not None and answer[0] is not None:
                status, running, suspended = answer
                last = {"running": running, "suspended": suspended}.get(_text(status))
                found[uid] = ENDED if _text(status) in TERMINAL else _text(last) if last else PENDING
        return found

    async def watch_epoch(self, every: float = 1.0) -> None:
        """Ask every so many seconds whether Redis is there and still remembers. Never ends; to be run as a task."""
        while True:
            epoch = await self.run("GET", self.keys.epoch)
            self._see_epoch(_text(epoch) if epoch is not None else None)
            await asyncio.sleep(every)

    async def _answers(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """None in place of an answer that is a refusal: one key that a stranger wrote over costs the others nothing."""

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
            self._forgot("epoch")


def _text(value: Any) -> str:
    # Strangers may write to Redis: what is no text must not cost anything but itself.
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value or "")


_DIGITS = 20
"""Of a version; what is longer is somebody's joke, and too much of it is more than int() takes."""
_END_OF_TIME = 253_402_300_800.0
"""The year 10000, which datetime does not know."""


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
