"""What counts as a try, and what does not."""

from pathlib import Path

import pytest
from proxied import proxied
from workers import ONE_AT_A_TIME, Worker, completed, tell, world

from tests.conftest import until

HANDLER = """
@on("completed")
def score(event):
    call("score", event)
"""
MORE_THAN_THERE_ARE_TRIES = 8


@pytest.mark.must_survive(25)
@pytest.mark.must_survive(30)
def test_starts_whose_replies_are_lost_do_not_use_up_the_tries(valkey, own_valkey, tmp_path: Path) -> None:
    with (
        proxied(own_valkey.port) as proxy,
        world(own_valkey.url, "evaluation") as redis,
        world(valkey.url, "evaluation") as calls,
        Worker(proxy.url, tmp_path, HANDLER, *ONE_AT_A_TIME, CALLS_URL=valkey.url) as worker,
    ):
        until(lambda: worker.get("/readyz")[0] == 200)
        tell(own_valkey.url, "evaluation", completed("first"))  # Redis has the script by then
        until(lambda: redis.is_done)
        proxy.lose_reply_to(b"$5\r\nstart\r\n", always=True)
        tell(own_valkey.url, "evaluation", completed("a"))
        until(lambda: proxy.lost >= MORE_THAN_THERE_ARE_TRIES)
        proxy.lose_no_more()
        until(lambda: redis.is_done)
        assert calls.calls == ["score first completed", "score a completed"]
