"""Reading a range of a stream in pages, on a real Valkey."""

from jobcast.client.operator import Operator
from jobcast.client.scan import PAGE, Span, progress
from jobcast.wire import encode
from testbed.valkey import ValkeyServer
from tests.client.telling import event

STREAM = "{scan}:events"


async def test_what_is_not_wanted_does_not_travel(valkey: ValkeyServer) -> None:
    async with Operator(valkey.url, "scan") as operator:
        for number in range(2 * PAGE):
            of = event("failed", str(number))
            await operator._client.xadd(STREAM, {"eval_id": of.eval_id, "event": encode(of)})
        await operator._client.xadd(STREAM, {"event": "whose?"})
        span = Span(STREAM, "-", "+", "eval_id", ("7", "150"))
        pages = [page.entries async for page in operator.scan(span)]
        assert [[found.fields.get("eval_id") for found in page] for page in pages] == [[b"7"], [b"150"], [None]]
        bare = [page.entries async for page in operator.scan(span._replace(is_bare=True))]
        assert [found.fields for found in bare[0]] == [{"eval_id": b"7"}]


def test_progress_goes_by_the_time_at_which_entries_were_published() -> None:
    span = Span(STREAM, "1000", "3000-5")
    assert [progress(span, place) for place in ("1000-0", "1500-3", "3000-5")] == [0.0, 0.25, 1.0]
    assert progress(Span(STREAM, "5-0", "5-9"), "5-1") == 1.0
