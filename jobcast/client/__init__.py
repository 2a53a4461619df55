"""For subscribers: what Jobcast tells, heard live, read durably, asked for later. Needs redis and msgspec, nothing else.

    async with AsyncClient() as jobcast:
        async for event in jobcast.events("completed", "failed"): ...

    with Client() as jobcast:
        for entry in jobcast.stream("scoring"): ...

| question | answer | promise |
| --- | --- | --- |
| `events()` | the live channels | lossy: what is told while nobody listens is gone |
| `stream(group)` | the stream, with a place kept in Redis | every entry at least once, acknowledged when its work is done |
| `follow(since)` | the stream, with a place kept in this process | every entry from `since` on, as long as it is kept |
| `get(eval_id)` | the latest record | how it stands and what was told last, or None |
| `log(eval_id)` | the exact bytes of a log | all of them, or what is missing and why |
| `wait(eval_id)` | the end | cannot miss it, told before or after |

The room's law: what is said to Redis and what its answers mean is written once, without I/O, as programs (`program`,
`live`, `group`, `record`, `log`, `waiting`); `aio` and `plain` only carry it out. Whoever runs the worker asks more
(`operator`: dead letters, replays, lag), and writes as well.
"""

from jobcast.client.async_client import AsyncClient, AsyncFeed, AsyncLogFeed
from jobcast.client.deduplicator import Deduplicator
from jobcast.client.entry import Entry
from jobcast.client.errors import ClientError, Damaged, NotKept, Refused, Unavailable
from jobcast.client.record import Record, RecordedJob
from jobcast.client.sync_client import Client, Feed, LogFeed

__all__ = [
    "AsyncClient",
    "AsyncFeed",
    "AsyncLogFeed",
    "Client",
    "ClientError",
    "Damaged",
    "Deduplicator",
    "Entry",
    "Feed",
    "LogFeed",
    "NotKept",
    "Record",
    "RecordedJob",
    "Refused",
    "Unavailable",
]
