"""jobcast replay, as a process."""

import asyncio
import json
import re
import signal
import subprocess
from collections.abc import Callable

import pytest
import redis

from jobcast.wire import encode
from testbed.valkey import ValkeyServer
from tests.cli.conftest import Process, at_a_terminal
from tests.cli.operating import Stage, ago, fields
from tests.client.telling import Teller, event
from tests.conftest import eventually

Run = Callable[..., "subprocess.CompletedProcess[str]"]
HOUR = 3600


def ended(result: "subprocess.CompletedProcess[str]", code: int = 0) -> str:
    """What it said, without its name."""
    assert result.returncode == code, result.stderr
    return result.stderr.replace("jobcast: ", "")


def test_events_of_a_time_are_appended_as_they_were_published(call: Run, stage: Stage) -> None:
    stage.announce("mine.score")
    (_, told, *_) = (
        *stage.tell(event("failed", "old"), entry=ago(3 * HOUR)),
        *stage.tell(event("failed", "new"), entry=ago(HOUR)),
    )
    said = ended(call("replay", "--since", "2h", "--handler", "score"))
    assert said == "replayed to mine.score 1 event of 1 evaluation (1 failed)\n"
    assert stage.replays == [
        {
            key: value.decode() if isinstance(value, bytes) else value
            for key, value in fields(event("failed", "new")).items()
        }
        | {"handler": "mine.score", "of": told}
    ]


@pytest.mark.parametrize(
    ("options", "evaluations"),
    [
        (["--since", "0"], ["a", "b", "b", "c"]),
        (["--since", "0", "--status", "running"], ["b"]),
        (["--since", "0", "--status", "running", "--status", "completed"], ["b", "c"]),
        (["--since", "0", "--eval", "a", "--eval", "c"], ["a", "c"]),
        (["--since", "0", "--eval", "b", "--status", "failed"], ["b"]),
        (["--since", "3h"], ["b", "b", "c"]),
        (["--since", "3h", "--until", "90m"], ["b", "b"]),
        (["--since", "0", "--until", "3h"], ["a"]),
        (["--since", "10s"], []),
    ],
    ids=" ".join,
)
def test_only_what_is_asked_for_is_replayed(
    call: Run, stage: Stage, options: list[str], evaluations: list[str]
) -> None:
    stage.tell(event("failed", "a"), entry=ago(4 * HOUR))
    begun = int(ago(2 * HOUR).removesuffix("-0"))
    stage.tell(event("running", "b"), entry=f"{begun}-0")
    stage.tell(event("failed", "b"), entry=f"{begun}-1")
    stage.tell(event("completed", "c"), entry=ago(HOUR))
    ended(call("replay", *options))
    assert [one["eval_id"] for one in stage.replays] == evaluations
    assert {one["handler"] for one in stage.replays} <= {""}


def test_an_entrys_id_is_a_beginning_and_an_end(call: Run, stage: Stage) -> None:
    entries = stage.tell(*(event("failed", str(number)) for number in range(4)))
    ended(call("replay", "--since", entries[1], "--until", entries[2]))
    assert [one["of"] for one in stage.replays] == entries[1:3]


def test_a_handler_is_given_only_statuses_that_it_wants(call: Run, stage: Stage) -> None:
    stage.announce("mine.score", statuses=("failed",))
    stage.tell(event("running"), event("failed"))
    ended(call("replay", "--since", "0", "--handler", "mine.score"))
    assert [one["status"] for one in stage.replays] == ["failed"]
    said = ended(call("replay", "--since", "0", "--handler", "score", "--status", "running"), 2)
    assert said == "--handler: mine.score wants only failed\n"


def test_a_dry_run_counts_shows_the_first_and_changes_nothing(call: Run, stage: Stage) -> None:
    for number in range(4):
        stage.tell(event("running", str(number)), event("failed", str(number)))
    stage.client.xadd(stage.keys.events, {"event": "{"})
    stage.client.xadd(stage.keys.events, {"nothing": "of ours"})
    result = call("replay", "--since", "0", "--dry-run")
    assert ended(result) == (
        "would replay 8 events of 4 evaluations (4 running, 4 failed); 2 entries skipped, not an event\n"
    )
    lines = result.stdout.splitlines()
    assert [line.split()[2] for line in lines] == ["0", "0", "1", "1", "2"]
    assert not stage.replays


def test_what_is_published_meanwhile_and_what_was_replayed_is_not_replayed(call: Run, stage: Stage) -> None:
    stage.tell(event("failed"))
    for count in (1, 2):
        ended(call("replay", "--since", "0"))
        assert len(stage.replays) == count
    assert stage.client.xlen(stage.keys.events) == 1


def test_an_evaluation_is_replayed_from_the_stream(call: Run, stage: Stage) -> None:
    entries = stage.tell(event("running", "a"), event("running", "b"), event("failed", "a"))
    said = ended(call("replay", "a"))
    assert said == "replayed 2 events of 1 evaluation (1 running, 1 failed)\n"
    assert [one["of"] for one in stage.replays] == [entries[0], entries[2]]


async def test_an_evaluation_that_the_stream_has_no_more_is_replayed_from_its_record(
    run: Run, stage: Stage, teller: Teller
) -> None:
    await teller.tell(event("running", "a"), event("completed", "a"), event("running", "b"))
    stage.client.xtrim(stage.keys.events, maxlen=1, approximate=False)
    said = ended(await asyncio.to_thread(run, "replay", "a", "b", "unknown"), 1).splitlines()
    assert said == [
        "evaluation 'unknown': not found",
        "replayed 2 events of 2 evaluations (1 running, 1 completed)",
    ]
    running, completed = stage.replays
    assert (running["eval_id"], running["of"] != "") == ("b", True)
    assert (completed["event"], completed["of"]) == (encode(event("completed", "a")).decode(), "")


async def test_a_record_without_an_event_is_said(run: Run, stage: Stage, teller: Teller) -> None:
    await teller.see("a", event("running", "a").job)
    said = ended(await asyncio.to_thread(run, "replay", "a"), 1)
    assert said.startswith("evaluation 'a': it has no event that this version can read\nreplayed 0 events")


def test_a_handler_is_found_by_its_last_part_if_that_is_one_only(call: Run, stage: Stage) -> None:
    said = ended(call("replay", "--since", "0", "--handler", "score"), 2)
    assert said == "--handler: no handler 'score' is known; there is none\n"
    stage.announce("mine.score", "route:shop.tasks.pay@bills", "yours.clean", "mine.clean")
    said = ended(call("replay", "--since", "0", "--handler", "clean"), 2)
    assert said == "--handler: 'clean' may be mine.clean or yours.clean\n"
    said = ended(call("replay", "--since", "0", "--handler", "mine"), 2)
    assert said == (
        "--handler: no handler 'mine' is known; there is mine.clean, mine.score, route:shop.tasks.pay@bills,"
        " yours.clean\n"
    )
    stage.tell(event("failed"))
    for name in ("score", "mine.clean", "pay", "shop.tasks.pay", "shop.tasks.pay@bills"):
        ended(call("replay", "--since", "0", "--handler", name))
    assert [one["handler"] for one in stage.replays] == [
        "mine.score",
        "mine.clean",
        *["route:shop.tasks.pay@bills"] * 3,
    ]


def test_nothing_is_replayed_to_a_handler_that_no_worker_has_any_more(call: Run, stage: Stage) -> None:
    stage.announce("mine.score", age=2 * HOUR)
    stage.tell(event("failed"))
    said = ended(call("replay", "--since", "0", "--handler", "score"), 2)
    assert re.fullmatch(r"--handler: no worker has mine.score now; it was last seen 120m ago\n", said)
    assert not stage.replays


async def test_ctrl_c_says_how_many_were_replayed_and_how_to_go_on(
    start: Callable[..., Process], run: Run, stage: Stage
) -> None:
    entries = stage.tell(*(event("failed", str(number)) for number in range(300)))
    process = start("replay", "--since", "0", "--rate", "150")
    await eventually(lambda: len(stage.replays) >= 5)
    process.send_signal(signal.SIGINT)
    _, said = await asyncio.to_thread(process.communicate, timeout=60)
    assert process.returncode == 130
    done = len(stage.replays)
    assert 5 <= done < 300
    found = re.fullmatch(
        rf"jobcast: replayed {done} events of {done} evaluations \({done} failed\); interrupted;"
        rf" continue with (--since {entries[done]} --until {entries[-1]})\n",
        said,
    )
    assert found, said
    await asyncio.to_thread(run, "replay", *found[1].split(), "--rate", "10000")
    assert [one["of"] for one in stage.replays] == entries


async def test_no_more_than_the_rate_leave_in_a_second(start: Callable[..., Process], stage: Stage) -> None:
    stage.tell(*(event("failed", str(number)) for number in range(10)))
    process = start("replay", "--since", "0", "--rate", "20")
    await asyncio.to_thread(process.communicate, timeout=60)
    stamps = [int(entry.partition("-")[0]) for entry, _ in stage.client.xrange(stage.keys.replays)]  # type: ignore[union-attr,misc]
    assert stamps[-1] - stamps[0] >= 9 * 50 * 0.95


async def test_a_redis_that_goes_away_is_said_with_how_to_go_on(
    start: Callable[..., Process], own_valkey: ValkeyServer, prefix: str
) -> None:
    with redis.Redis(port=own_valkey.port, decode_responses=True) as client:
        stage = Stage(client, prefix)
        stage.tell(*(event("failed", str(number)) for number in range(300)))
        process = start("replay", "--since", "0", "--rate", "100", REDIS_URL=own_valkey.url)
        await eventually(lambda: len(stage.replays) >= 5)
        own_valkey.stop(kill=True)
    _, said = await asyncio.to_thread(process.communicate, timeout=60)
    assert process.returncode == 1
    first, second = said.splitlines()
    assert re.search(r"replayed \d+ events of .*; perhaps one more; continue with --since \d+-\d+ --until", first)
    assert second.startswith(f"jobcast: Redis at 127.0.0.1:{own_valkey.port}: ")


async def test_at_a_terminal_it_shows_how_far_it_is_when_it_takes_longer(
    environment: dict[str, str], stage: Stage
) -> None:
    stage.tell(*(event("failed", str(number)) for number in range(150)))
    slow, code = await at_a_terminal(environment, "replay", "--since", "0", "--rate", "90")
    assert (code, b"replaying" in slow) == (0, True)
    fast, code = await at_a_terminal(environment, "replay", "--since", "0", "--eval", "7")
    assert (code, b"replaying" in fast) == (0, False)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--since: give it, or evaluation ids; one of the two"),
        (["a", "--since", "2h"], "--since: give it, or evaluation ids"),
        (["a", "--until", "2h"], "--until: it needs --since"),
        (["a", "--eval", "b"], "--eval: it needs --since"),
        (["--since", "yesterday"], "--since: 'yesterday' is not a time; use a duration"),
        (["--since", "2h", "--until", "soon"], "--until: 'soon' is not a time"),
        (["--since", "1795168800"], "--since: '1795168800' looks like Unix seconds"),
        (["--since", "2h", "--status", "done"], "--status: 'done' is not a status"),
        (["--since", "2h", "--rate", "0"], "--rate: 0 is not a number of events per second"),
        (["--since", "2h", "--rate", "nan"], "--rate: nan is not a number of events per second"),
        (["--since", "1h", "--until", "2h"], "--until: it is before --since"),
    ],
)
def test_wrong_options_are_code_2_and_named(call: Run, stage: Stage, arguments: list[str], said: str) -> None:
    stage.tell(event("failed"))
    result = call("replay", *arguments)
    assert ended(result, 2).startswith(said)
    assert not stage.replays


def test_what_other_clients_announced_is_no_handler(call: Run, stage: Stage) -> None:
    handlers = {"stranger-1": {"statuses": 1, "group": "x"}}
    odd = json.dumps({"kind": "worker", "name": "w", "version": "1", "handlers": handlers, "seen": 1})
    for index, rubbish in enumerate(("", "{", "[]", '{"handlers": 1}', odd)):
        stage.client.hset(stage.keys.parts, f"stranger-{index}", rubbish)
    assert "there is none" in ended(call("replay", "--since", "0", "--handler", "stranger-1"), 2)
