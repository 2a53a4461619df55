"""jobcast watch at a terminal: the table, and what is in its rows."""

import pytest
from rich.console import Console

from jobcast.cli.render.table import MOST_ROWS, WatchTable
from jobcast.event import Attempt
from testbed.valkey import ValkeyServer
from tests.cli.terminal import HEIGHT, Terminal
from tests.client.telling import BIRTH, Teller, event, progress, telling_to


def rows(board: WatchTable, height: int = 50, trouble: str | None = None) -> list[str]:
    """The lines of its picture half a minute after everything began, without heading and rules."""
    out = Console(width=120, height=height, record=True, file=open("/dev/null", "w"), color_system=None)  # noqa: SIM115
    out.print(board.render(BIRTH + 30, height, trouble))
    out.file.close()
    lines = (" ".join(line.split()) for line in out.export_text().splitlines())
    return [line for line in lines if line and not line.startswith(("status", "─"))]


async def test_a_row_is_an_evaluation_and_changes_with_it(environment: dict[str, str], teller: Teller) -> None:
    async with Terminal(environment, "watch") as terminal:
        await terminal.shows("no events yet")
        await teller.tell(event("running"), event("running", "43"))
        await terminal.shows("running 43 evals/eval-43")
        await terminal.shows("running 42 evals/eval-42")
        await teller.tell(event("failed", exit_code=137, reason="BackoffLimitExceeded", output="no \x1b[2Jmore"))
        await terminal.shows("failed 42 evals/eval-42 1.5 s 137 BackoffLimitExceeded no more")
        assert terminal.picture.count("evals/eval-42") == 1
        assert terminal.picture.index("eval-42") < terminal.picture.index("eval-43"), "the latest change comes first"
        assert await terminal.interrupt() == 0
        assert b"Traceback" not in terminal.given
        assert terminal.given.count(b"\x1b[?25l") == terminal.given.count(b"\x1b[?25h"), "the cursor is back"


async def test_it_shows_what_was_published_while_redis_was_down_and_says_that_it_was(
    environment: dict[str, str], persistent_valkey: ValkeyServer, prefix: str
) -> None:
    async with telling_to(persistent_valkey.url, prefix) as teller:
        await teller.tell(event("running"))
    async with Terminal(environment | {"REDIS_URL": persistent_valkey.url}, "watch", "--since", "0") as terminal:
        await terminal.shows("running 42")
        persistent_valkey.stop()
        await terminal.shows(f"waiting for Redis: 127.0.0.1:{persistent_valkey.port}")
        await terminal.shows("running 42")
        persistent_valkey.start()
        async with telling_to(persistent_valkey.url, prefix) as teller:
            await teller.tell(event("completed"))
        await terminal.shows("completed 42")
        assert "waiting for Redis" not in terminal.picture
        assert await terminal.interrupt() == 0


async def test_a_terminal_that_can_erase_nothing_is_given_lines(environment: dict[str, str], teller: Teller) -> None:
    await teller.tell(event("running"), event("completed"))
    async with Terminal(environment, "watch", "--since", "0", TERM="dumb") as terminal:
        await terminal.shows("completed 42 evals/eval-42 exit 0")
        assert "running 42" in terminal.picture


async def test_only_what_is_asked_for_is_shown(environment: dict[str, str], teller: Teller) -> None:
    nightly, weekly = ({"metadata": {"job_name": "a", "pipeline": name}} for name in ("nightly", "weekly"))
    await teller.tell(
        event("failed", "a", **nightly), event("failed", "b", **weekly), event("completed", "c", **nightly)
    )
    arguments = ("watch", "--since", "0", "--status", "failed", "--label", "pipeline=nightly", "-n", "evals")
    async with Terminal(environment, *arguments) as terminal:
        await terminal.shows("failed a")
        await teller.tell(event("failed", "d", **nightly))
        await terminal.shows("failed d")
        assert terminal.picture.count("evals/eval-") == 2


async def test_rows_that_the_terminal_has_no_room_for_are_counted(environment: dict[str, str], teller: Teller) -> None:
    await teller.tell(*(event("running", str(number)) for number in range(2 * HEIGHT)))
    async with Terminal(environment, "watch", "--since", "0") as terminal:
        await terminal.shows("26 more")
        assert len(terminal.picture.splitlines()) < HEIGHT
        await terminal.shows(f"running {2 * HEIGHT - 1}")


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--status", "lost", "--status: 'lost' is not a status"),
        ("--label", "nightly", "--label: 'nightly' is not NAME=VALUE"),
        ("--namespace", "No Name", "--namespace: "),
        ("--since", "yesterday", "--since: "),
    ],
)
def test_a_filter_that_cannot_be_meant_is_code_2_and_a_line(call, option: str, value: str, said: str) -> None:  # type: ignore[no-untyped-def]
    result = call("watch", option, value)
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert result.stderr.startswith(f"jobcast: {said}")


def test_what_runs_grows_older_and_what_ended_says_how() -> None:
    board = WatchTable()
    board.add(event("running", at=BIRTH + 10))
    assert rows(board) == ["running 42 evals/eval-42 20.0 s"]
    board.add(event("suspended"))
    assert rows(board) == ["suspended 42 evals/eval-42 JobSuspended"]
    board.add(event("completed", exit_code=None, output="[bold]done\n"))
    assert rows(board) == ["completed 42 evals/eval-42 1.5 s ? CompletionsReached [bold]done"]


def test_a_clock_that_is_behind_makes_nothing_younger_than_new() -> None:
    board = WatchTable()
    board.add(event("running", at=BIRTH + 1000))
    assert rows(board) == ["running 42 evals/eval-42 0.0 s"]


def test_progress_is_in_the_row_until_the_next_event() -> None:
    board = WatchTable()
    board.add(event("running", at=BIRTH))
    board.add(progress("attempt-ended", attempt=Attempt(pod="a", exit_code=1, reason="Error", container="main")))
    assert rows(board) == ["running 42 evals/eval-42 30.0 s attempt-ended exit 1 Error"]
    board.add(event("cancelled"))
    assert rows(board) == ["cancelled 42 evals/eval-42 JobDeleted"]


def test_evaluations_without_number_take_bounded_memory() -> None:
    board = WatchTable()
    for number in range(MOST_ROWS + 10):
        board.add(event("running", str(number)))
    assert rows(board, height=16)[-1] == f"{MOST_ROWS - 10} more"


def test_it_says_that_nothing_was_published_only_once_nothing_is_missed_any_more() -> None:
    board = WatchTable()
    assert rows(board) == ["connecting"]
    board.is_listening = True
    assert rows(board) == ["no events yet; --since 1h also shows past events"]
