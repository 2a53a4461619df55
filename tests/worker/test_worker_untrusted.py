"""Untrusted input in the stream: each entry becomes a dead letter, and those behind it flow."""

from pathlib import Path

import msgspec
import pytest
from workers import Worker, completed, tell, world

from jobcast.wire import MalformedEvent, decode, encode
from tests.conftest import until
from tests.property.odd import SNIPPETS, grafted, places, renamed

HANDLERS = """
@on("completed")
def score(event): call("score", event)
"""


def strange() -> list[dict[bytes, bytes]]:
    """Every field of an event as everything that JSON can be, and can not be; fields of others; nothing; much."""
    real = msgspec.json.decode(encode(completed("a")))
    bodies = [grafted(real, at, snippet) for at in range(len(places(real))) for snippet in SNIPPETS]
    bodies += [renamed(real, at, b"") for at in range(len(places(real)))]
    bodies += [b"", b"null", b"\xff" * 1000, b"x" * 5_000_000]
    return [{b"id": b"x", b"event": body} for body in bodies] + [
        {b"other": b"field"},
        {b"": b""},
        {b"\xff": b"\xff"},
        {b"Event": encode(completed("a"))},
    ]


@pytest.mark.must_survive(8)
@pytest.mark.must_survive(30)
def test_everything_that_is_no_event_is_put_aside_and_counted_and_the_next_ones_flow(valkey, tmp_path: Path) -> None:
    entries = strange()
    readable = 0
    for fields in entries:
        try:
            decode(fields.get(b"event", b"")), fields.get(b"event", b"").decode()
            readable += 1
        except (MalformedEvent, UnicodeDecodeError):
            pass
    assert readable < len(entries) - 500
    with world(valkey.url, "odd") as redis:
        pipe = redis.client.pipeline()
        for fields in entries:
            pipe.xadd(redis.keys.events, fields)  # type: ignore[arg-type]
        pipe.execute()
        tell(valkey.url, "odd", completed("good"))
        with Worker(valkey.url, tmp_path, HANDLERS, KEY_PREFIX="odd", WORKER_PREFETCH="1000") as worker:
            until(lambda: redis.is_done)
            assert "score good completed" in redis.calls
            assert len(redis.calls) == readable + 1
            assert redis.client.xlen(redis.keys.dead) == len(entries) - readable
            until(lambda: f"jobcast_dead_letters_total {len(entries) - readable}.0" in worker.get("/metrics")[1])
            assert worker.get("/livez")[0] == 200
            assert "Traceback" not in worker.log
