"""What Redis knows of logs: the bytes where it is the store, where each log is kept, and which ones are still owed.

| where | what |
| --- | --- |
| `{prefix}:log:<uid>:<pod>:<container>[:<instance>]` | a whole log, zstd |
| field `log:<pod>/<container>/<instance>` of the Job's row and of its evaluation's record | what is known of it, JSON of Log |
| field `first:<pod uid>/<container>/<instance>` of the Job's row | when its first line was written: how a rotation is noticed |
| `{prefix}:unstored` | logs that the store did not take, for the sweep to bring later |
"""

from typing import Any

import msgspec

from jobcast.event import Log
from jobcast.ledger.ledger import Ledger
from jobcast.logstore.base import REFUSED, ArchiveError, Kept, LogPlace
from jobcast.redis.batcher import LedgerError
from jobcast.wire import UNREADABLE

# A later, emptier read never replaces a fuller one, and what is known of a log never outlives its Job's row.
_ATTACH = """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local known = redis.call('HGET', KEYS[1], ARGV[1])
local size = known and known:match('"bytes":(%d+)')
if size and tonumber(size) > tonumber(ARGV[3]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
if redis.call('HGET', KEYS[2], 'uid') == ARGV[4] then redis.call('HSET', KEYS[2], ARGV[1], ARGV[2]) end
return 1
"""
_FIRST = """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
return redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2])
"""
MOST_OWED = 10_000
"""Logs that are remembered as owed: a store that is down for hours must not fill Redis."""


class PendingUpload(msgspec.Struct, frozen=True):
    """A log that was read and that the store did not take."""

    place: LogPlace
    eval_id: str
    pod_uid: str


_owed = msgspec.json.Decoder(PendingUpload)
_log = msgspec.json.Decoder(Log)


def _field(place: LogPlace) -> str:
    return f"log:{place.pod}/{place.container}/{place.instance}"


class LogIndex:
    """Every method waits while Redis is away. They raise LedgerError."""

    def __init__(self, ledger: Ledger, retention: int) -> None:
        self._keys = ledger.keys
        self._run = ledger.run
        self._retention = retention

    async def put(self, place: LogPlace, blob: bytes, size: int) -> Kept:
        """Keep a log's bytes, compressed, for the retention; `size` is theirs before. A fuller one that is there stays.
        Raises ArchiveError, as a log store does."""
        key = self._keys.log(place.uid, place.pod, place.container, place.instance)
        ref = f"redis:{key}"
        try:
            if not await self._run("SET", key, blob, "NX", "EX", self._retention):
                known = _bytes_of(await self._run("HGET", self._keys.job(place.uid), _field(place)))
                if known > size:
                    return Kept(ref, known)
                await self._run("SET", key, blob, "EX", self._retention)
        except LedgerError as error:
            raise ArchiveError(REFUSED, str(error)) from error
        return Kept(ref, size)

    async def attach(self, place: LogPlace, eval_id: str, log: Log) -> None:
        """Note where a log is, in the row of its Job and in the record of its evaluation."""
        row, record = self._keys.job(place.uid), self._keys.evaluation(eval_id)
        body = msgspec.json.encode(log)
        await self._run("EVAL", _ATTACH, 2, row, record, _field(place), body, log.bytes, place.uid)

    async def owe(self, place: LogPlace, eval_id: str, pod_uid: str) -> None:
        """Remember that the store is to get this log later."""
        if await self._run("HLEN", self._keys.unstored) < MOST_OWED:
            owed = PendingUpload(place, eval_id, pod_uid)
            await self._run("HSET", self._keys.unstored, _owed_field(place), msgspec.json.encode(owed))

    async def owed(self) -> list[PendingUpload]:
        """The logs that the store is to get. What cannot be read is dropped."""
        found = []
        answer = await self._run("HGETALL", self._keys.unstored)
        pairs: Any = answer.items() if isinstance(answer, dict) else zip(answer[::2], answer[1::2], strict=True)
        for field, value in pairs:
            try:
                found.append(_owed.decode(value))
            except UNREADABLE:
                await self._run("HDEL", self._keys.unstored, field)
        return found

    async def settle(self, place: LogPlace) -> None:
        """It is stored, or cannot be had any more."""
        await self._run("HDEL", self._keys.unstored, _owed_field(place))

    async def first_line(self, uid: str, instance: str) -> str | None:
        """When the first line of this instance was written, as far as anybody looked."""
        value = await self._run("HGET", self._keys.job(uid), f"first:{instance}")
        return value.decode() if isinstance(value, bytes) else value

    async def note_first_line(self, uid: str, instance: str, time: str) -> None:
        """Who looked first is believed."""
        await self._run("EVAL", _FIRST, 1, self._keys.job(uid), f"first:{instance}", time)


def _owed_field(place: LogPlace) -> str:
    return f"{place.uid}/{place.pod}/{place.container}/{place.instance}"


def _bytes_of(value: bytes | None) -> int:
    try:
        return _log.decode(value).bytes if value else 0
    except UNREADABLE:
        return 0
