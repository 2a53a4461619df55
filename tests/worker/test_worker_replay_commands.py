"""What an operator does with `jobcast dead` and `jobcast replay`, and what a real worker makes of it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from workers import Worker, completed, running, tell, world

from tests.conftest import until

JOBCAST = str(Path(sys.executable).parent / "jobcast")
PREFIX = "replayed"
HANDLERS = """
@on("completed", max_retries=1, retry_backoff=0.01)
def score(event):
    if not calls.exists("fixed"):
        raise ValueError("not yet")
    call("score", event)

@on("running", "completed")
def clean(event):
    calls.rpush("ids", event.id)
    call("clean", event)
"""


@pytest.fixture
def jobcast(valkey):
    def jobcast(*arguments: str) -> "subprocess.CompletedProcess[str]":
        env = os.environ | {"REDIS_URL": valkey.url, "KEY_PREFIX": PREFIX}
        return subprocess.run([JOBCAST, *arguments], env=env, capture_output=True, text=True, timeout=60)

    return jobcast


def test_what_a_handler_gave_up_on_is_handled_once_it_is_fixed_and_replayed(valkey, tmp_path: Path, jobcast) -> None:
    with Worker(valkey.url, tmp_path, HANDLERS, KEY_PREFIX=PREFIX), world(valkey.url, PREFIX) as it:
        tell(valkey.url, PREFIX, completed("a"))
        (letter,) = until(lambda: it.dead)
        assert (letter["handler"], letter["tries"]) == ("my_handlers.score", "2")
        until(lambda: it.is_done)
        assert it.calls == ["clean a completed"]

        broken = jobcast("dead", "replay", "--all")
        assert broken.returncode == 0, broken.stderr
        until(lambda: it.dead and not it.client.xlen(it.keys.replays))  # it failed again, and is a letter again
        assert it.dead[0]["handler"] == "my_handlers.score"

        it.client.set("fixed", 1)
        fixed = jobcast("dead", "replay", "--all", "--handler", "score")
        assert (fixed.returncode, fixed.stderr) == (0, "jobcast: replayed 1 dead letter\n")
        until(lambda: "score a completed" in it.calls)
        until(lambda: not it.client.xlen(it.keys.replays))
        assert (it.dead, it.calls) == ([], ["clean a completed", "score a completed"])


def test_a_replay_is_handled_again_with_its_ids_by_that_handler_alone_and_no_other_reader_sees_it(
    valkey, tmp_path: Path, jobcast
) -> None:
    with Worker(valkey.url, tmp_path, HANDLERS, KEY_PREFIX=PREFIX), world(valkey.url, PREFIX) as it:
        it.client.set("fixed", 1)
        it.client.xgroup_create(it.keys.events, "audit", id="0", mkstream=True)
        tell(valkey.url, PREFIX, running("a"), completed("a"), completed("b"))
        until(lambda: len(it.calls) == 5)
        (_, heard), *_ = it.client.xreadgroup("audit", "one", {it.keys.events: ">"})
        assert len(heard) == 3
        told, ids = it.client.xlen(it.keys.events), it.client.lrange("ids", 0, -1)
        it.client.delete("calls", "ids")

        with it.client.pubsub() as channels:
            channels.psubscribe(f"{PREFIX}:*")
            assert until(lambda: channels.get_message())["type"] == "psubscribe"
            replayed = jobcast("replay", "--since", "2h", "--handler", "clean")
            assert replayed.returncode == 0, replayed.stderr
            until(lambda: len(it.calls) == 3)
            until(lambda: not it.client.xlen(it.keys.replays))
            assert sorted(it.calls) == ["clean a completed", "clean a running", "clean b completed"]
            assert it.calls.index("clean a running") < it.calls.index("clean a completed")
            assert sorted(it.client.lrange("ids", 0, -1)) == sorted(ids)
            assert channels.get_message() is None
        assert it.client.xlen(it.keys.events) == told
        assert not it.client.xreadgroup("audit", "one", {it.keys.events: ">"})
        assert it.dead == []
