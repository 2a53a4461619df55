"""The client for subscribers: events live, from the stream, or later from records. Needs only redis and msgspec.

    async with AsyncClient() as jobcast:
        async for event in jobcast.events("completed", "failed"): ...

    with Client() as jobcast:
        for entry in jobcast.stream("scoring"): ...

| method | reads | promise |
| --- | --- | --- |
| `events()` | the live channels | may miss events that are published while it is not connected |
| `stream(group)` | the stream; Redis keeps the position | every entry at least once, acknowledged after handling |
| `follow(since)` | the stream; this process keeps the position | every entry after `since`, as long as it is kept |
| `get(eval_id)` | the latest record | the status and the last event, or None |
| `list()` | the index and the records | records by their last change, newest first |
| `log(eval_id)` | the exact bytes of a log | all of them, or what is missing and why |
| `wait(eval_id)` | the end | cannot miss it, published before or after |

Commands to Redis and the meaning of its replies are written once, without I/O, as operations (`effects` and the modules
that use it); `async_client` and `sync_client` perform them. `operator` adds what operators need: dead letters, replays
and lag. Lag is the exception: it uses `jobcast.ledger.groups` with the asyncio client directly.
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
