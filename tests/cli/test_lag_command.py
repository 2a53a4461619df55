"""jobcast lag, on groups, handlers and dead letters of all kinds."""

import asyncio
import json
import signal
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from testbed.valkey import ValkeyServer
from tests.cli.conftest import JOBCAST, Process, answered, at_a_terminal
from tests.cli.operating import Stage, ago
from tests.client.telling import event
from tests.conftest import eventually

Run = Callable[..., "subprocess.CompletedProcess[str]"]
HOUR = 3600


def lag(call: Run) -> dict[str, Any]:
    result = call("lag", "--json")
    assert (result.returncode, result.stderr, result.stdout.count("\n")) == (0, "", 1)
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def read(stage: Stage, group: str, count: int) -> None:
    stage.client.xreadgroup(group, "one", {stage.keys.events: ">"}, count=count)


def test_of_each_group_it_is_said_how_far_it_is_behind(call: Run, stage: Stage) -> None:
    assert lag(call) == {"groups": [], "handlers": []}
    stage.tell(event("running"), entry=ago(2 * HOUR))
    stage.tell(event("failed"), event("running", "b"))
    for group in ("audit", "worker"):
        stage.client.xgroup_create(stage.keys.events, group, id="0")
    stage.client.xgroup_create(stage.keys.replays, "worker", id="0", mkstream=True)
    read(stage, "worker", 2)
    audit, worker, replays = lag(call)["groups"]
    assert (worker["group"], worker["stream"]) == ("worker", stage.keys.events)
    assert (worker["unread"], worker["pending"], worker["lag"], worker["is_dead"]) == (1, 2, 3, False)
    assert 2 * HOUR <= worker["oldest_pending_seconds"] < 2 * HOUR + 60
    assert worker["last_read_seconds"] < 60
    assert [(one["name"], one["pending"]) for one in worker["consumers"]] == [("one", 2)]
    assert (audit["unread"], audit["is_dead"], audit["last_read_seconds"]) == (3, True, None)
    assert (replays["stream"], replays["lag"], replays["is_dead"]) == (stage.keys.replays, 0, False)


def test_of_each_handler_there_are_its_dead_letters_and_when_it_was_seen(call: Run, stage: Stage) -> None:
    stage.announce("mine.score", statuses=("failed",))
    stage.announce("mine.gone", age=2 * HOUR)
    for handler in ("mine.score", "mine.score", "mine.never", ""):
        stage.bury(handler=handler)
    handlers = {one.pop("handler"): one for one in lag(call)["handlers"]}
    assert handlers["mine.score"].pop("last_seen_seconds") < 60
    assert handlers["mine.score"] == {"group": "worker", "statuses": ["failed"], "dead_letters": 2}
    assert handlers["mine.gone"]["last_seen_seconds"] >= 2 * HOUR
    assert handlers["mine.gone"]["dead_letters"] == 0
    assert handlers["mine.never"] == {"group": None, "statuses": None, "last_seen_seconds": None, "dead_letters": 1}
    assert handlers[""]["dead_letters"] == 1


def test_people_get_two_tables(call: Run, stage: Stage) -> None:
    stage.tell(event("running"), event("failed"))
    for group in ("audit\x1b[2J", "worker"):
        stage.client.xgroup_create(stage.keys.events, group, id="0")
    read(stage, "worker", 2)
    stage.announce("mine.score", statuses=("failed", "completed"))
    stage.announce("mine.gone", age=2 * HOUR)
    stage.bury()
    stage.bury(handler="")
    lines = [line.split() for line in call("lag").stdout.splitlines()]
    assert lines[0][:4] == ["group", "stream", "unread", "pending"]
    assert lines[1][:6] == ["audit", stage.keys.events, "2", "0", "-", "never"]
    assert " ".join(lines[1][8:]) == "dead: the stream's trimming does not wait for it"
    assert lines[2][:4] == ["worker", stage.keys.events, "0", "2"]
    assert " ".join(lines[2][-3:]) == "1 alive -"
    assert lines[4:] == [
        ["handler", "group", "dead", "letters", "last", "seen", "wants"],
        ["(whole", "entries)", "-", "1", "-", "-"],
        ["mine.gone", "worker", "0", "2", "h", "0", "min", "ago", "completed", "failed"],
        ["mine.score", "worker", "1", "now", "failed", "completed"],
    ]


@pytest.mark.parametrize(("most", "code"), [("1", 1), ("2", 0)])
def test_it_fails_when_a_group_is_further_behind_than_it_may_be(call: Run, stage: Stage, most: str, code: int) -> None:
    stage.tell(event("running"), event("failed"))
    stage.client.xgroup_create(stage.keys.events, "worker", id="0")
    read(stage, "worker", 1)
    result = call("lag", "--max", most)
    said = f"jobcast: group worker of {stage.keys.events} is 2 entries behind, more than 1\n" if code else ""
    assert (result.returncode, result.stderr) == (code, said)


async def test_watching_it_shows_what_changes_until_ctrl_c(start: Callable[..., Process], stage: Stage) -> None:
    process = start("lag", "--watch", "--json")
    assert process.stdout is not None

    async def letters() -> int:
        line = await asyncio.wait_for(asyncio.to_thread(process.stdout.readline), 60)  # type: ignore[union-attr]
        return sum(one["dead_letters"] for one in json.loads(line)["handlers"])

    assert await letters() == 0
    first = stage.bury()
    await eventually(lambda: _is(letters, 1))
    stage.bury()
    stage.client.xdel(stage.keys.dead, first)
    stage.bury()
    await eventually(lambda: _is(letters, 2))
    process.send_signal(signal.SIGINT)
    _, said = await asyncio.to_thread(process.communicate, timeout=60)
    assert (process.returncode, said) == (0, "")


async def _is(letters: Callable[[], Any], count: int) -> bool:
    return bool(await letters() == count)


async def test_at_a_terminal_a_line_is_a_line(environment: dict[str, str], stage: Stage) -> None:
    for number in range(3):
        stage.announce(f"mine.{'x' * 100}{number}")
    shown, code = await at_a_terminal(environment, "lag")
    assert code == 0
    assert len(shown.splitlines()) == 2 + 1 + 3


async def test_at_a_terminal_it_is_watched_in_one_place(environment: dict[str, str], stage: Stage) -> None:
    stage.announce("mine.score")
    shown, code = await asyncio.to_thread(answered, environment, b"mine.score", b"\x03", "lag", "--watch")
    assert (code, b"\x1b[1A" in shown) == (0, True)  # one line up: it is written over what was there


def test_max_and_watch_exclude_each_other(call: Run) -> None:
    result = call("lag", "--watch", "--max", "1")
    assert (result.returncode, result.stderr) == (2, "jobcast: --max: it excludes --watch\n")


async def test_watching_it_waits_for_a_redis_that_went_away(
    start: Callable[..., Process], own_valkey: ValkeyServer
) -> None:
    process = start("lag", "--watch", "--json", REDIS_URL=own_valkey.url)
    assert process.stdout is not None
    assert process.stderr is not None
    await asyncio.wait_for(asyncio.to_thread(process.stdout.readline), 60)
    own_valkey.stop()
    said = await asyncio.wait_for(asyncio.to_thread(process.stderr.readline), 60)
    assert said.startswith(f"jobcast: waiting for Redis at 127.0.0.1:{own_valkey.port}: ")
    own_valkey.start()
    assert await asyncio.wait_for(asyncio.to_thread(process.stderr.readline), 60) == "jobcast: reconnected to Redis\n"
    assert json.loads(await asyncio.wait_for(asyncio.to_thread(process.stdout.readline), 60))["groups"] == []


async def test_watching_it_ends_when_no_process_reads_it_any_more(environment: dict[str, str]) -> None:
    def watched() -> "subprocess.CompletedProcess[str]":
        script = 'set -o pipefail; "$0" lag --watch --json | head -n 1'
        return subprocess.run(
            ["bash", "-c", script, JOBCAST], env=environment, capture_output=True, text=True, timeout=90
        )

    result = await asyncio.to_thread(watched)
    assert (result.returncode, result.stderr, result.stdout.count("\n")) == (0, "", 1)
