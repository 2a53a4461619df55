"""jobcast dead, on what workers and strangers left."""

import asyncio
import json
import signal
import subprocess
from collections.abc import Callable

import pytest

from jobcast.wire import encode
from tests.cli.conftest import Process, answered
from tests.cli.operating import Stage, ago
from tests.client.telling import event
from tests.conftest import eventually

Run = Callable[..., "subprocess.CompletedProcess[str]"]
HOUR = 3600
BOMB = b'{"a":' * 5000
RUBBISH = (b"", b"{broken", b"\xff\xfe", b"[]", b"\x1b[2Jnot \xe2\x80\xae", BOMB, b"null")


def said_by(result: "subprocess.CompletedProcess[str]", code: int = 0) -> str:
    assert result.returncode == code, result.stderr
    return result.stderr.replace("jobcast: ", "")


def leave_rubbish(stage: Stage) -> int:
    """What strangers may put there; how many letters that is."""
    for body in RUBBISH:
        stage.bury(body)
    for fields in (
        {"a": "b"},
        {b"\xff": b"\xff"},
        {"event": encode(event("failed")), "tries": "many", "handler": "x\x1b[2J"},
    ):
        stage.client.xadd(stage.keys.dead, fields)  # type: ignore[arg-type]
    stage.client.xadd(stage.keys.dead, {"entry": "\n", "tries": "9" * 5000}, id="18446744073709551615-1")
    return len(RUBBISH) + 4


# -- list and show --


def test_a_line_says_what_was_given_up_by_whom_and_why(call: Run, stage: Stage) -> None:
    assert said_by(call("dead", "list")) == "0 dead letters\n"
    stage.bury(event("failed", "a"), at="1795168800000-5", tries=1, reason="ValueError: \x1b[2Jno\nmore")
    result = call("dead", "list")
    assert result.stdout == (
        "1795168800000-5   2026-11-20T10:00:00Z  mine.score                failed     a  1 try  ValueError: no\n"
    )
    assert said_by(result) == "1 dead letter\n"


def test_for_programs_a_dead_letter_is_a_line_with_the_event_as_it_was_published(call: Run, stage: Stage) -> None:
    told = event("failed", "a", output="two\nlines")
    letter = stage.bury(told, at="1795168800000-5")
    stage.bury("{broken")
    first, second = map(json.loads, call("dead", "list", "--json").stdout.splitlines())
    assert first == {
        "id": letter,
        "time": "2026-11-20T10:00:00+00:00",
        "entry": "1-1",
        "handler": "mine.score",
        "reason": "ValueError: no",
        "traceback": "Traceback\n  x",
        "tries": 4,
        "event": json.loads(encode(told)),
    }
    assert second["event"] == "{broken"
    assert json.loads(call("dead", "show", letter, "--json").stdout) == first


def test_only_dead_letters_of_a_handler_or_of_the_last_hours_are_listed(call: Run, stage: Stage) -> None:
    old = stage.bury(at=ago(3 * HOUR))
    other = stage.bury(at=ago(2 * HOUR), handler="mine.clean")
    new = stage.bury(at=ago(HOUR))
    nobody = stage.bury(handler="")

    def listed(*options: str) -> list[str]:
        return [line.split()[0] for line in call("dead", "list", *options).stdout.splitlines()]

    assert listed() == [old, other, new, nobody]
    assert listed("--handler", "score") == [old, new]
    assert listed("--handler", "mine.clean") == [other]
    assert listed("--since", "150m") == [other, new, nobody]
    assert listed("--since", other, "--handler", "score") == [new]
    said = said_by(call("dead", "list", "--handler", "nobody"), 2)
    assert said == "--handler: no handler 'nobody' is known; there is mine.clean, mine.score\n"


def test_a_dead_letter_is_shown_with_its_event_error_and_traceback(call: Run, stage: Stage) -> None:
    trace = 'Traceback\n  File "x", line 1\n\tdo(\x1b]0;owned\x07)\nValueError: no'
    letter = stage.bury(event("failed", "a"), at="1795168800000-5", traceback=trace)
    result = call("dead", "show", letter)
    assert said_by(result) == ""
    assert [line.rstrip() for line in result.stdout.splitlines()] == [
        "id       1795168800000-5",
        "written  2026-11-20T10:00:00Z",
        "handler  mine.score",
        "entry    1-1",
        "tries    4",
        "error    ValueError: no",
        f"event    {event('failed', 'a').id}",
        "  2026-11-20T10:00:00Z  failed     a                 evals/eval-a  exit 1  1.5 s  BackoffLimitExceeded  hello",
        "traceback",
        "  Traceback",
        '    File "x", line 1',
        "          do()",
        "  ValueError: no",
    ]
    assert said_by(call("dead", "show", "1-1"), 1) == "dead letter 1-1 not found\n"


def test_what_other_clients_left_is_shown_and_moves_no_terminal(call: Run, stage: Stage) -> None:
    count = leave_rubbish(stage)
    for options in ((), ("--json",)):
        result = call("dead", "list", *options)
        assert said_by(result) == f"{count} dead letters\n"
        assert result.stdout.count("\n") == count
        assert "\x1b" not in result.stdout
        assert options or "\u202e" not in result.stdout
    for letter in stage.letters:
        assert said_by(call("dead", "show", letter)) == ""
        json.loads(call("dead", "show", letter, "--json").stdout)


# -- replay --


def test_a_dead_letter_is_replayed_to_its_handler_and_is_gone(call: Run, stage: Stage) -> None:
    stage.announce("mine.score")
    told = event("failed", "a")
    letter, kept = stage.bury(told, entry="7-1"), stage.bury(event("failed", "b"))
    assert said_by(call("dead", "replay", letter)) == "replayed 1 dead letter\n"
    replayed = {
        "id": told.id,
        "status": "failed",
        "eval_id": "a",
        "event": encode(told).decode(),
        "handler": "mine.score",
        "of": "7-1",
    }
    assert (stage.replays, stage.letters) == ([replayed], [kept])
    said = said_by(call("dead", "replay", letter), 1)
    assert said == f"dead letter {letter}: not found\nreplayed 0 dead letters; 1 cannot be replayed\n"
    assert stage.replays == [replayed]


def test_a_replay_that_was_given_up_on_is_of_no_entry(call: Run, stage: Stage) -> None:
    stage.bury(entry="replay:5-1", handler="")
    assert said_by(call("dead", "replay", "--all")) == "replayed 1 dead letter\n"
    (replayed,) = stage.replays
    assert (replayed["of"], replayed["handler"]) == ("", "")


def test_what_is_no_event_is_said_and_stays_and_the_others_go_on(call: Run, stage: Stage) -> None:
    stage.announce("mine.score")
    broken, one, strange, two = stage.bury("{broken"), stage.bury(), stage.bury(b"\xff"), stage.bury()
    expected = (
        f"dead letter {broken}: not an event; it cannot be replayed\n"
        f"dead letter {strange}: not an event; it cannot be replayed\n"
        "replayed 2 dead letters; 2 cannot be replayed\n"
    )
    assert said_by(call("dead", "replay", broken, one, strange, two), 1) == expected
    assert stage.letters == [broken, strange]
    again = expected.replace("replayed 2", "replayed 0")
    assert said_by(call("dead", "replay", "--all"), 1) == again
    assert len(stage.replays) == 2


def test_rubbish_in_number_is_named_ten_times_and_counted(call: Run, stage: Stage) -> None:
    count = leave_rubbish(stage) + leave_rubbish_again(stage)
    said = said_by(call("dead", "replay", "--all"), 1)
    assert said.count("\n") == 11
    assert said.endswith(f"replayed 0 dead letters; {count} cannot be replayed\n")
    assert len(stage.letters) == count


def leave_rubbish_again(stage: Stage) -> int:
    for _ in range(2):
        stage.client.xadd(stage.keys.dead, {"a": "b"}, id="18446744073709551615-*")
    return 2


def test_a_dead_letter_whose_handler_no_worker_has_now_stays(call: Run, stage: Stage) -> None:
    stage.announce("mine.score")
    stage.announce("mine.gone", age=HOUR)
    gone, unknown, fine = stage.bury(handler="mine.gone"), stage.bury(handler="mine.never"), stage.bury()
    said = said_by(call("dead", "replay", "--all"), 1)
    assert said == (
        f"dead letter {gone}: no worker has the handler mine.gone now\n"
        f"dead letter {unknown}: no worker has the handler mine.never now\n"
        "replayed 1 dead letter; 2 cannot be replayed\n"
    )
    assert stage.letters == [gone, unknown]
    assert fine not in stage.letters


def test_all_may_be_narrowed_and_a_dry_run_changes_nothing(call: Run, stage: Stage) -> None:
    stage.announce("mine.score", "mine.clean")
    old, other = stage.bury(at=ago(3 * HOUR)), stage.bury(at=ago(2 * HOUR), handler="mine.clean")
    new = stage.bury(at=ago(HOUR))
    choice = ("dead", "replay", "--all", "--handler", "score", "--since", "150m")
    result = call(*choice, "--dry-run")
    assert said_by(result) == "would replay 1 dead letter\n"
    assert [line.split()[0] for line in result.stdout.splitlines()] == [new]
    assert stage.letters == [old, other, new]
    assert said_by(call(*choice)) == "replayed 1 dead letter\n"
    assert stage.letters == [old, other]


def test_thousands_of_dead_letters_are_replayed_in_pages(call: Run, stage: Stage) -> None:
    stage.announce("mine.score")
    pipeline, body = stage.client.pipeline(), encode(event("failed"))
    for _ in range(1050):
        pipeline.xadd(stage.keys.dead, {"handler": "mine.score", "event": body})
    pipeline.execute()
    assert call("dead", "list").stdout.count("\n") == 1050
    assert said_by(call("dead", "replay", "--all", "--rate", "100000")) == "replayed 1,050 dead letters\n"
    assert (len(stage.replays), stage.letters) == (1050, [])


def test_a_dead_letter_goes_only_when_its_replay_is_there(call: Run, stage: Stage) -> None:
    stage.announce("mine.score")
    letter = stage.bury()
    stage.client.set(stage.keys.replays, "of another type")
    said = said_by(call("dead", "replay", letter), 1).splitlines()
    assert said[0] == "replayed 0 dead letters, perhaps one more; the others are kept"
    assert "WRONGTYPE" in said[1]
    assert stage.letters == [letter]


async def test_two_at_a_time_replay_a_dead_letter_once(start: Callable[..., Process], stage: Stage) -> None:
    stage.announce("mine.score")
    for number in range(200):
        stage.bury(event("failed", str(number)))
    both = [start("dead", "replay", "--all", "--rate", "2000") for _ in range(2)]
    said = [await asyncio.to_thread(process.communicate, timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert len({one["eval_id"] for one in stage.replays}) == len(stage.replays) == 200


async def test_ctrl_c_leaves_the_others_where_they_are(start: Callable[..., Process], stage: Stage) -> None:
    stage.announce("mine.score")
    for number in range(300):
        stage.bury(event("failed", str(number)))
    process = start("dead", "replay", "--all", "--rate", "100")
    await eventually(lambda: len(stage.replays) >= 5)
    process.send_signal(signal.SIGINT)
    _, said = await asyncio.to_thread(process.communicate, timeout=60)
    done = len(stage.replays)
    assert process.returncode == 130
    assert said == f"jobcast: replayed {done} dead letters; interrupted, the others are kept\n"
    assert len(stage.letters) == 300 - done


# -- drop --


def test_dead_letters_are_dropped(call: Run, stage: Stage) -> None:
    first, second, third = stage.bury(), stage.bury("{broken"), stage.bury()
    assert said_by(call("dead", "drop", first, second, "--yes")) == "dropped 2 dead letters\n"
    assert stage.letters == [third]
    assert said_by(call("dead", "drop", first, third, "--yes"), 1) == "dropped 1 dead letter; 1 not found\n"
    assert not stage.letters
    assert not stage.replays


def test_all_of_a_handler_are_dropped(call: Run, stage: Stage) -> None:
    old, other, _ = stage.bury(at=ago(3 * HOUR)), stage.bury(at=ago(2 * HOUR), handler="mine.clean"), stage.bury()
    said = said_by(call("dead", "drop", "--all", "--handler", "score", "--since", "2h", "--yes"))
    assert said == "dropped 1 dead letter\n"
    assert stage.letters == [old, other]
    assert said_by(call("dead", "drop", "--all", "-y")) == "dropped 2 dead letters\n"
    assert said_by(call("dead", "drop", "--all", "-y")) == "dropped 0 dead letters\n"


def test_without_a_terminal_nothing_is_dropped_unless_it_is_said_beforehand(run: Run, stage: Stage) -> None:
    letter = stage.bury()
    said = said_by(run("dead", "drop", letter), 2)
    assert said == "--yes: it is needed where there is no terminal to ask at\n"
    assert stage.letters == [letter]


@pytest.mark.parametrize(
    ("answer", "code", "is_dropped"),
    [(b"y\n", 0, True), (b"yes\n", 0, True), (b"\n", 1, False), (b"no\n", 1, False), (b"\x03", 130, False)],
)
async def test_at_a_terminal_it_asks(
    environment: dict[str, str], stage: Stage, answer: bytes, code: int, is_dropped: bool
) -> None:
    stage.bury()
    shown, ended = await asyncio.to_thread(answered, environment, b"[y/N]", answer, "dead", "drop", "--all")
    assert b"drop 1 dead letter for good? [y/N]" in shown
    assert (ended, not stage.letters) == (code, is_dropped)


@pytest.mark.parametrize("command", ["replay", "drop"])
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--all: give it, or ids of dead letters; one of the two"),
        (["1-1", "--all"], "--all: give it, or ids of dead letters"),
        (["1-1", "--handler", "x"], "--handler: it needs --all"),
        (["1-1", "--since", "2h"], "--since: it needs --all"),
        (["1"], "ID: '1' is not the id of a dead letter"),
        (["--all", "--since", "soon"], "--since: 'soon' is not a time"),
        (["--all", "--handler", "x"], "--handler: no handler 'x' is known; there is mine.score"),
    ],
)
def test_wrong_options_are_code_2_and_named(
    call: Run, stage: Stage, command: str, arguments: list[str], said: str
) -> None:
    letter = stage.bury()
    yes = ["--yes"] if command == "drop" else []
    assert said_by(call("dead", command, *arguments, *yes), 2).startswith(said)
    assert stage.letters == [letter]
