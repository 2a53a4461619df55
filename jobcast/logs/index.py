"""What Redis knows about logs: their bytes where Redis is the store, where each log is stored, and pending uploads.

| where | what |
| --- | --- |
| `{prefix}:log:<uid>:<pod>:<container>[:<instance>]` | a whole log, zstd |
| field `log:<pod>/<container>/<instance>` of the Job's row and of its evaluation's record | a Log, as JSON |
| field `first:<pod uid>/<container>/<instance>` of the Job's row | the time of its first line: reveals a rotation |
| `{prefix}:unstored` | pending uploads: logs that the store did not accept, for the sweep to upload later |
"""

from typing import Any

import msgspec

from jobcast.event import Log
from jobcast.ledger.ledger import Ledger
from jobcast.logstore.base import REFUSED, LogPlace, LogStoreError, Stored
from jobcast.redis.batcher import LedgerError
from jobcast.wire import UNREADABLE

# A later read of less never replaces a longer one, and the entry of a log never outlives its Job's row.
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
MAX_PENDING = 10_000
"""More pending uploads are not recorded: a store that is down for hours must not fill Redis."""


class PendingUpload(msgspec.Struct, frozen=True):
    """A log that was read and that the store did not accept."""

    place: LogPlace
    eval_id: str
    pod_uid: str


_pending = msgspec.json.Decoder(PendingUpload)
_log = msgspec.json.Decoder(Log)


class LogIndex:
    """Every method waits while Redis is unreachable, and raises LedgerError when Redis rejects a command."""

    def __init__(self, ledger: Ledger, retention: int) -> None:
        self._keys = ledger.keys
        self._run = ledger.run
        self._retention = retention

    async def put(self, place: LogPlace, blob: bytes, size: int) -> Stored:
        """Store a log's compressed bytes for the retention, unless a longer log is there; `size` is theirs before.

        Raises LogStoreError instead of LedgerError, as a log store does."""
        key = self._keys.log(place.uid, place.pod, place.container, place.instance)
        ref = f"redis:{key}"
        try:
            if not await self._run("SET", key, blob, "NX", "EX", self._retention):
                known = _bytes_of(await self._run("HGET", self._keys.job(place.uid), f"log:{_name(place)}"))
                if known > size:
                    return Stored(ref, known)
                await self._run("SET", key, blob, "EX", self._retention)
        except LedgerError as error:
            raise LogStoreError(REFUSED, str(error)) from error
        return Stored(ref, size)

    async def attach(self, place: LogPlace, eval_id: str, log: Log) -> None:
        """Record where a log is stored, in the row of its Job and in the record of its evaluation."""
        row, record = self._keys.job(place.uid), self._keys.evaluation(eval_id)
        field, body = f"log:{_name(place)}", msgspec.json.encode(log)
        await self._run("EVAL", _ATTACH, 2, row, record, field, body, log.bytes, place.uid)

    async def add_pending_upload(self, place: LogPlace, eval_id: str, pod_uid: str) -> None:
        """Record that the log must be uploaded later."""
        if await self._run("HLEN", self._keys.unstored) < MAX_PENDING:
            pending = PendingUpload(place, eval_id, pod_uid)
            await self._run("HSET", self._keys.unstored, _pending_field(place), msgspec.json.encode(pending))

    async def pending_uploads(self) -> list[PendingUpload]:
        """All of them. Entries that cannot be decoded are removed."""
        found = []
        answer = await self._run("HGETALL", self._keys.unstored)
        pairs: Any = answer.items() if isinstance(answer, dict) else zip(answer[::2], answer[1::2], strict=True)
        for field, value in pairs:
            try:
                found.append(_pending.decode(value))
            except UNREADABLE:
                await self._run("HDEL", self._keys.unstored, field)
        return found

    async def mark_uploaded(self, place: LogPlace) -> None:
        """The log is stored, or no longer exists: remove the pending upload."""
        await self._run("HDEL", self._keys.unstored, _pending_field(place))

    async def first_line(self, uid: str, instance: str) -> str | None:
        """The recorded time of the first line of this instance; None when none is recorded."""
        value = await self._run("HGET", self._keys.job(uid), f"first:{instance}")
        return value.decode() if isinstance(value, bytes) else value

    async def record_first_line(self, uid: str, instance: str, time: str) -> None:
        """The first record of an instance stays."""
        await self._run("EVAL", _FIRST, 1, self._keys.job(uid), f"first:{instance}", time)


def _name(place: LogPlace) -> str:
    return f"{place.source}/{place.instance}"


def _pending_field(place: LogPlace) -> str:
    return f"{place.uid}/{_name(place)}"


def _bytes_of(value: bytes | None) -> int:
    try:
        return _log.decode(value).bytes if value else 0
    except UNREADABLE:
        return 0
