"""The data of one consumer group in Redis, and its scripts as Python. See the Lua files for what each does."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

from jobcast.delivery.scripts import Call, Exchange, Script, run
from jobcast.delivery.target import Target
from jobcast.keys import Keys

ROUTER = "router"
"""The one consumer name of every group: nothing has to be claimed from the dead."""
VERSION = 1
"""Of the data. A process that meets a newer one refuses to start."""
LONGEST_TRACEBACK = 16_384
"""Bytes of a traceback that a dead letter keeps, its end: enough for dozens of frames."""
MOST_READY = 1_000
"""No more entries are read while so many keys are ready: a process fetches 64 at a time."""
MOST_QUEUED = 1_000_000
"""Entries in the queues; each takes about 340 B of Redis' memory."""
READ_BYTES = 4 * 1024 * 1024
"""Of entries read in one step: more would hold Redis up for longer than some milliseconds."""
READ_COUNT = 64
ENDS_AT_ONCE = 100
ROUTE, TAKE, OPEN, BEGIN, BEAT, END, REPAIR = map(Script, ("route", "take", "open", "begin", "beat", "end", "repair"))


class Begun(NamedTuple):
    """A run of a target that Redis has begun, or wants to be sent."""

    target: str
    token: str
    tries: int
    lost: int
    sends: int


class Taken(NamedTuple):
    """One entry for this process."""

    entry: str
    key: str
    fields: dict[bytes, bytes] | None
    """None: it was trimmed from the stream before it was handled."""
    begun: list[Begun] | None
    """None: it is to be decoded and opened."""

    @property
    def body(self) -> bytes:
        """Of the event; empty where there is none."""
        return (self.fields or {}).get(b"event", b"")


class Answer(NamedTuple):
    """Of a take."""

    run_id: str
    """The server's: another one means that Redis may have forgotten something."""
    due_in: float | None
    """Seconds until the next entry is due; None when none waits."""
    taken: list[Taken]


class Opening(NamedTuple):
    """An entry that was decoded."""

    entry: str
    key: str
    reader: str
    """The request that it was taken with."""
    room: int
    targets: Sequence[Target]


class Identity(NamedTuple):
    """Of a run. Without a target it is the entry as a whole, and the token its reader's request."""

    entry: str
    key: str
    target: str
    token: str


class End(NamedTuple):
    """How a run ended."""

    run: Identity
    outcome: Literal["done", "retry", "lost", "back", "dead"]
    """`lost`: with its process. `back`: it did not begin, or was stopped on purpose."""
    number: int = 0
    """retry: after so many milliseconds. back: tries that it had counted and that do not count. dead: tries."""
    reason: str = ""
    traceback: str = ""

    def arguments(self, max_age: int) -> tuple[Any, ...]:
        if self.outcome != "dead":
            return (*self.run, self.outcome, self.number, "", "", "")
        return (*self.run, self.outcome, max_age, self.reason, self.traceback[-LONGEST_TRACEBACK:], self.number)


class Routed(NamedTuple):
    read: int
    queued: int
    bytes: int
    has_more: bool


class Store:
    """Of one group, by one process; `process` is its name, unique to its life."""

    def __init__(
        self,
        connection: Exchange,
        keys: Keys,
        group: str,
        process: str,
        *,
        lease: float,
        max_age: float,
        has_sends: bool,
    ) -> None:
        """`lease` and `max_age` (of entries and dead letters) are in seconds. `has_sends`: some target is elsewhere."""
        self._connection = connection
        self.keys = keys
        self.group = group
        self.has_sends = has_sends
        self._max_age = int(max_age)
        self._arguments = (group, int(lease * 1000), int(has_sends))
        streams = (keys.events, keys.replays, keys.signals)
        data = (keys.queue(group), keys.slots(group), keys.sends(group), keys.pulse(group), keys.next(group))
        self._keys = (*streams, *data, keys.dead, keys.tries(group, ""), keys.wake(group), keys.answer(group, process))
        self.streams = streams
        self._mean_bytes = READ_BYTES / READ_COUNT

    def _call(self, script: Script, *arguments: Any) -> Call:
        return Call(script, self._keys, (*self._arguments, *arguments))

    async def run(self, *calls: Call) -> list[Any]:
        return await run(self._connection, calls)

    async def begin_group(self) -> None:
        """Make the group where it is missing. Raises ValueError where a former or a newer version has data here."""
        made = [("XGROUP", "CREATE", stream, self.group, "0", "MKSTREAM") for stream in self.streams]
        pulse = self.keys.pulse(self.group)
        marks = [("HSETNX", pulse, "version", VERSION), ("HGET", pulse, "version")]
        former = ("EXISTS", self.keys.lanes(self.group))
        *replies, version, is_former = await self._connection.exchange([*made, *marks, former])
        for reply in replies:
            if isinstance(reply, Exception) and "BUSYGROUP" not in str(reply):
                raise reply
        if isinstance(version, bytes) and int(version) > VERSION:
            raise ValueError(
                f"the group {self.group} has data of a newer version ({int(version)}); this process knows version {VERSION}"
            )
        if is_former == 1:
            raise ValueError(
                f"the group {self.group} has data of the former engine; let its workers finish, then delete the key"
                f" {self.keys.lanes(self.group)}"
            )

    def routing(self, unwanted: Sequence[str]) -> Call:
        """Reads new entries into the queues; entries of an `unwanted` status are acknowledged unread."""
        count = max(1, min(READ_COUNT, int(READ_BYTES / max(self._mean_bytes, 1))))
        return self._call(ROUTE, count, MOST_READY, MOST_QUEUED, *unwanted)

    def routed(self, reply: Any) -> Routed:
        read, queued, size, has_more = reply
        if read:
            self._mean_bytes = (self._mean_bytes + size / read) / 2
        return Routed(read, queued, size, bool(has_more))

    def taking(
        self, request: str, slots: int, sends: int, free_bytes: int, rates: dict[str, float], *, is_idle: bool
    ) -> Call:
        """Takes what is due for so much room. `rates` are runs per second."""
        pauses = [part for name, rate in rates.items() for part in (name, max(1, int(1000 / rate)))]
        return self._call(TAKE, request, slots, sends, max(0, free_bytes), int(is_idle), self._max_age, *pauses)

    @staticmethod
    def answer(reply: Any) -> Answer:
        run_id, due_in, found = reply
        taken = [
            Taken(
                entry.decode(),
                key.decode(),
                _fields(fields) if fields else None,
                [_begun(one) for one in begun] if isinstance(begun, list) else None,
            )
            for entry, key, fields, _, begun in found
        ]
        return Answer(run_id.decode(), None if due_in < 0 else due_in / 1000, taken)

    def opening(self, entries: Iterable[Opening]) -> Call:
        """Fixes the targets of entries; at most `room` of them that are here begin."""
        args: list[Any] = []
        for one in entries:
            args += (one.entry, one.key, one.reader, one.room, len(one.targets))
            for target in one.targets:
                args += (target.name, target.place.value, int(1000 / target.rate) if target.rate else 0)
        return self._call(OPEN, *args)

    @staticmethod
    def opened(reply: Any) -> list[list[Begun]]:
        """Per entry the runs that begin."""
        return [[_begun(one) for one in begun] for begun in reply]

    def beginning(self, entry: str, target: str, token: str) -> Call:
        return self._call(BEGIN, entry, target, token)

    @staticmethod
    def began(entry: str, target: str, token: str, reply: Any) -> Taken | None:
        """The run that began; None: not this one."""
        if not reply:
            return None
        key, tries, lost, fields = reply
        return Taken(entry, key.decode(), _fields(fields), [Begun(target, token, tries, lost, 0)])

    def beating(self, runs: Iterable[Identity]) -> Call:
        return self._call(BEAT, *(part for run_ in runs for part in run_))

    async def end(self, ends: Sequence[End]) -> None:
        await self.run(*self.ending(ends))

    def ending(self, ends: Sequence[End]) -> list[Call]:
        """Tells Redis how runs ended. Each may be told twice."""
        return [
            self._call(END, *(part for end in ends[i : i + ENDS_AT_ONCE] for part in end.arguments(self._max_age)))
            for i in range(0, len(ends), ENDS_AT_ONCE)
        ]

    async def repair(self, stream: str, after: str, count: int = READ_COUNT) -> tuple[str, int]:
        """Queue what is pending and queued nowhere. `stream` is e, r or s; returns where to go on, '' at the end."""
        (reply,) = await self.run(self._call(REPAIR, stream, after, "0", count))
        return reply[0].decode(), reply[1]

    async def repair_queue(self, cursor: str) -> tuple[str, int]:
        """Drop what is queued and not pending. Returns where to go on, '0' at the end."""
        (reply,) = await self.run(self._call(REPAIR, "", "queue", cursor, READ_COUNT))
        return reply[0].decode(), reply[1]


def _fields(flat: list[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _begun(row: Any) -> Begun:
    name, token, tries, lost, sends = row
    return Begun(name.decode(), token.decode(), tries, lost, sends)
