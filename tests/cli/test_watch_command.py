"""jobcast watch, as a process."""

import asyncio
import signal
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
import redis

from jobcast.event import Attempt
from jobcast.wire import encode
from testbed.valkey import ValkeyServer
from tests.cli.conftest import JOBCAST, Process
from tests.cli.operating import Stage, ago
from tests.client.telling import BIRTH, Teller, event, progress
from tests.conftest import eventually

Start = Callable[..., Process]
FAILED = Attempt(
    pod="pod-a", index=3, exit_code=1, reason="Error", container="fetch", role="init", message="no\x1b[2J model\nmore"
)


async def lines(process: Process, count: int) -> list[str]:
    assert process.stdout is not None
    return [await asyncio.wait_for(asyncio.to_thread(process.stdout.readline), 60) for _ in range(count)]


async def ended(process: Process) -> tuple[int, str, str]:
    out, err = await asyncio.to_thread(process.communicate, timeout=60)
    return process.returncode, out, err


async def test_for_programs_each_line_is_the_event_as_on_the_wire(
    start: Start, teller: Teller, is_listening: Any
) -> None:
    told = [event("running"), event("completed", output="two\nlines \x1b[31mred"), event("cancelled", "43")]
    watch = start("watch", "--json")
    await eventually(is_listening)
    await teller.tell(*told)
    assert await lines(watch, 3) == [encode(one).decode() + "\n" for one in told]


async def test_people_get_a_line_with_what_matters_and_nothing_that_moves_their_terminal(
    start: Start, teller: Teller, is_listening: Any
) -> None:
    watch = start("watch")
    await eventually(is_listening)
    nasty = "\x1b]0;owned\x07\x1b[2J\x1b[31mfirst\x1b[0m \u202eline\x07\nsecond"
    await teller.tell(event("running"), event("failed", exit_code=137, output=nasty, reason="[bold]Why\x9b1m"))
    running, failed = await lines(watch, 2)
    assert running == "2026-11-20T10:00:00Z  running    42                evals/eval-42\n"
    assert failed == (
        "2026-11-20T10:00:00Z  failed     42                evals/eval-42"
        "  exit 137  1.5 s  [bold]Why\\x9b1m  first \\u202eline\\x07\n"
    )


async def test_progress_is_shown_between_the_events_set_off_from_them(
    start: Start, teller: Teller, is_listening: Any
) -> None:
    told = progress("attempt-ended", at=BIRTH + 30, attempt=FAILED)
    people, programs, filtered = start("watch"), start("watch", "--json"), start("watch", "--status", "failed")
    await eventually(lambda: is_listening(3))
    await teller.tell(event("running"))
    await teller.tell_progress(told)
    await teller.tell(event("failed"))
    assert (await lines(programs, 3))[1] == encode(told).decode() + "\n"
    assert (await lines(people, 3))[1] == (
        "2026-11-20T10:00:30Z    attempt-ended   42           evals/eval-42"
        "  pod-a  index 3  init container fetch  exit 1  Error  no model\n"
    )
    assert "failed" in (await lines(filtered, 1))[0]


async def test_only_the_statuses_asked_for_are_shown(start: Start, teller: Teller, is_listening: Any) -> None:
    watch = start("watch", "--json", "--status", "failed", "--status", "cancelled")
    await eventually(is_listening)
    await teller.tell(event("running"), event("completed"), event("failed", "43"), event("cancelled", "44"))
    assert await lines(watch, 2) == [
        encode(event("failed", "43")).decode() + "\n",
        encode(event("cancelled", "44")).decode() + "\n",
    ]


async def test_since_shows_what_was_published_before_and_goes_on(start: Start, teller: Teller) -> None:
    await teller.tell(event("running"), event("completed"))
    watch = start("watch", "--json", "--since", "0", "--status", "completed", "--status", "failed")
    assert await lines(watch, 1) == [encode(event("completed")).decode() + "\n"]
    await teller.tell(event("failed", "43"))
    assert await lines(watch, 1) == [encode(event("failed", "43")).decode() + "\n"]


async def test_since_may_be_a_time(start: Start, stage: Stage) -> None:
    stage.tell(event("running", "old"), entry=ago(3 * 3600))
    stage.tell(event("running", "new"), entry=ago(3600))
    watch = start("watch", "--json", "--since", "2h")
    assert await lines(watch, 1) == [encode(event("running", "new")).decode() + "\n"]
    stage.tell(event("completed", "new"))
    assert await lines(watch, 1) == [encode(event("completed", "new")).decode() + "\n"]


@pytest.mark.parametrize("told", [1, 3], ids=["and nothing more is told", "and more is told"])
@pytest.mark.parametrize("how", ["--json", ""], ids=["json", "people"])
async def test_it_ends_cleanly_when_its_reader_has_had_enough(
    environment: dict[str, str], teller: Teller, is_listening: Any, told: int, how: str
) -> None:
    script = 'set -o pipefail; "$0" watch $1 | head -n 1'
    pipe = subprocess.PIPE
    process = subprocess.Popen(  # noqa: ASYNC220 - a pipeline of a shell is the point
        ["bash", "-c", script, JOBCAST, how], stdout=pipe, stderr=pipe, text=True, env=environment
    )
    try:
        await eventually(is_listening)
        await teller.tell(*(event("running", f"more-{i}") for i in range(told)))
        code, out, err = await ended(process)
    finally:
        process.kill()
        process.communicate()
    assert (code, err) == (0, "")
    assert out.count("\n") == 1


@pytest.mark.parametrize("how", [[], ["--json"]])
async def test_ctrl_c_is_how_it_ends(start: Start, teller: Teller, how: list[str]) -> None:
    watch = start("watch", *how, "--since", "0")
    await teller.tell(event("running"))
    await lines(watch, 1)
    watch.send_signal(signal.SIGINT)
    assert await ended(watch) == (0, "", "")


async def test_what_was_not_an_event_is_counted_at_the_end(
    start: Start, teller: Teller, valkey: ValkeyServer, is_listening: Any
) -> None:
    watch = start("watch", "--json")
    await eventually(is_listening)
    with redis.Redis(port=valkey.port) as client:
        client.publish(teller.keys.channel("running"), b"rubbish")
    await teller.tell(event("completed"))
    await lines(watch, 1)
    watch.send_signal(signal.SIGINT)
    assert await ended(watch) == (0, "", "jobcast: skipped 1 messages that were not events\n")


async def test_it_waits_for_a_redis_that_went_away_and_goes_on(
    start: Start, own_valkey: ValkeyServer, prefix: str
) -> None:
    watch = start("watch", "--json", REDIS_URL=own_valkey.url)
    data = encode(event("running"))

    def is_heard() -> bool:
        with redis.Redis(port=own_valkey.port) as client:
            return bool(client.publish(f"{prefix}:running", data))

    await eventually(is_heard)
    await lines(watch, 1)
    own_valkey.stop()
    assert watch.stderr is not None
    said = await asyncio.wait_for(asyncio.to_thread(watch.stderr.readline), 60)
    assert said.startswith(f"jobcast: waiting for Redis at 127.0.0.1:{own_valkey.port}: ")
    own_valkey.start()
    await eventually(is_heard)
    assert await lines(watch, 1) == [data.decode() + "\n"]
    assert await asyncio.wait_for(asyncio.to_thread(watch.stderr.readline), 60) == "jobcast: reconnected to Redis\n"
    watch.send_signal(signal.SIGINT)
    assert (await ended(watch))[0] == 0


async def test_only_named_evaluations_are_shown_and_it_stops_in_time(
    run: Callable[..., "subprocess.CompletedProcess[str]"], teller: Teller
) -> None:
    await teller.tell(event("running", "a"), event("running", "b"), event("completed", "a"))
    watch = await asyncio.to_thread(run, "watch", "a", "--since", "0", "--timeout", "2")
    assert watch.returncode == 124
    assert [line.split()[1:3] for line in watch.stdout.splitlines()] == [["running", "a"], ["completed", "a"]]
    assert watch.stderr == "jobcast: stopped after 2 s (--timeout)\n"
