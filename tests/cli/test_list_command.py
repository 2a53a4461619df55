"""jobcast list, and get of several."""

import json
import subprocess
import time
from collections.abc import Callable

import pytest

from jobcast.cli.commands import list as list_room
from tests.cli.conftest import at_a_terminal
from tests.cli.operating import Stage
from tests.client.telling import Teller, event

Call = Callable[..., "subprocess.CompletedProcess[str]"]
HEAD = ["EVALUATION", "STATUS", "EXIT", "DURATION", "UPDATED", "JOB"]


def rows(result: "subprocess.CompletedProcess[str]") -> list[list[str]]:
    """The words of each row; the head first."""
    assert result.returncode == 0, result.stderr
    return [line.split() for line in result.stdout.splitlines()]


def keep(stage: Stage, *eval_ids: str, status: str = "failed", **more: object) -> None:
    """Records, each changed after the one before."""
    for eval_id in eval_ids:
        of = event(status, eval_id, **more)
        fields = {"status": status, "uid": of.job.uid, "namespace": of.job.namespace, "name": of.job.name}
        (entry,) = stage.tell(of)
        body = stage.client.xrange(stage.keys.events, entry, entry)[0][1]["event"]  # type: ignore[index]
        stage.client.hset(stage.keys.evaluation(eval_id), mapping=fields | {"event": body, "created": "1795168790"})
        place = stage.client.zcard(stage.keys.index)
        stage.client.zadd(stage.keys.index, {eval_id: place + 1})  # type: ignore[operator]


@pytest.mark.parametrize("how", [["list"], ["ls"], ["get"]], ids=" ".join)
def test_evaluations_are_listed_the_latest_change_first(call: Call, stage: Stage, how: list[str]) -> None:
    keep(stage, "a", "b", status="completed")
    keep(stage, "c", status="running")
    shown = rows(call(*how))
    assert shown == [
        HEAD,
        ["c", "running", "-", "-", "2026-11-20T10:00:00Z", "evals/eval-c"],
        ["b", "completed", "0", "1.5", "s", "2026-11-20T10:00:00Z", "evals/eval-b"],
        ["a", "completed", "0", "1.5", "s", "2026-11-20T10:00:00Z", "evals/eval-a"],
    ]


@pytest.mark.parametrize("how", [["list"], ["get"], ["list", "-o", "json"], ["get", "-l", "team=a"]], ids=" ".join)
def test_an_empty_list_says_so_as_kubectl_does(call: Call, stage: Stage, how: list[str]) -> None:
    result = call(*how)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "jobcast: No evaluations found.\n")


def test_options_choose_and_may_be_repeated_or_joined_by_commas(call: Call, stage: Stage) -> None:
    keep(stage, "a", metadata={"pipeline": "nightly", "team": "x"})
    keep(stage, "b", status="running", metadata={"pipeline": "weekly", "team": "x"})
    keep(stage, "c", status="completed", metadata={})

    def names(*options: str) -> list[str]:
        return call("list", "-o", "name", *options).stdout.split()

    assert names() == ["c", "b", "a"]
    assert names("--status", "failed,running") == names("--status", "failed", "--status", "running") == ["b", "a"]
    assert names("-l", "team=x,pipeline=weekly") == ["b"]
    assert names("-l", "team=x", "-l", "pipeline=weekly,pipeline=nightly") == ["b", "a"]
    assert names("--pipeline", "nightly") == ["a"]
    assert names("-n", "evals", "--limit", "1") == ["c"]
    assert names("-n", "other") == []
    assert names("--limit", "0") == ["c", "b", "a"]
    assert call("get", "-l", "team=x", "-o", "name").stdout.split() == ["b", "a"]


def test_what_has_not_changed_since_then_is_left_out(call: Call, stage: Stage) -> None:
    keep(stage, "old", "new")
    now = int(time.time())
    stage.client.zadd(stage.keys.index, {"old": (now - 7300) * 1000, "new": (now - 7000) * 1000})
    assert call("list", "-o", "name", "--since", "2h").stdout.split() == ["new"]


def test_for_programs_a_line_is_a_record_as_get_gives_it(call: Call, stage: Stage) -> None:
    keep(stage, "a", "b")
    lines = call("list", "-o", "json").stdout.splitlines()
    assert [json.loads(line)["eval_id"] for line in lines] == ["b", "a"]
    assert lines == call("list", "--json").stdout.splitlines()
    assert call("get", "a", "-o", "json").stdout == lines[1] + "\n"
    assert json.loads(lines[0])["event"]["time"] == "2026-11-20T10:00:00+00:00"


def test_the_wide_table_has_attempts_reason_and_labels(call: Call, stage: Stage) -> None:
    ours = {"job_name": "eval-a", "failed_at": "2026-11-20T10:01:01Z", "log_source": "eval-a-x/main"}
    keep(stage, "a", metadata={**ours, "team": "x"})
    head, row = rows(call("list", "-o", "wide"))
    assert head == [*HEAD, "CREATED", "ATTEMPTS", "REASON", "LABELS"]
    assert row[-4:] == ["2026-11-20T09:59:50Z", "0", "BackoffLimitExceeded", "team=x"]


def test_a_long_list_is_printed_page_by_page_under_one_head(
    call: Call, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(list_room, "PAGE", 2)
    keep(stage, *(str(number) for number in range(7)))
    shown = [row[0] for row in rows(call("list", "--limit", "5"))]
    assert shown == ["EVALUATION", "6", "5", "4", "3", "2"]
    assert [row[0] for row in rows(call("list", "--limit", "4"))] == ["EVALUATION", "6", "5", "4", "3"]


def test_several_ids_are_a_table_and_a_missing_one_makes_the_exit_code_1(call: Call, stage: Stage) -> None:
    keep(stage, "a", "b")
    assert [row[0] for row in rows(call("get", "a", "b"))] == ["EVALUATION", "a", "b"]
    result = call("get", "a", "missing", "-o", "name")
    assert (result.returncode, result.stdout) == (1, "a\n")
    assert result.stderr.startswith("jobcast: evaluation 'missing' not found at ")
    elsewhere = call("get", "a", "-n", "other")
    assert (elsewhere.returncode, elsewhere.stdout) == (1, "")
    assert elsewhere.stderr.endswith(", namespace other\n")


def test_text_of_other_programs_does_not_move_the_terminal(call: Call, stage: Stage) -> None:
    keep(stage, "a\x1b[2J", metadata={"team": "\x1b]0;x\x07"})
    shown = call("list", "-o", "wide").stdout
    assert "\x1b" not in shown
    assert call("list", "-o", "name").stdout == "a\n"


async def test_at_a_terminal_times_are_ages_statuses_have_colors_and_a_cut_list_says_so(
    environment: dict[str, str], teller: Teller
) -> None:
    await teller.tell(event("failed", "a", at=time.time() - 200), event("failed", "b", at=time.time() - 7300))
    shown, code = await at_a_terminal(environment, "list", "--limit", "1")
    assert code == 0
    assert b" ago " in shown
    assert b"\x1b[1;31mfailed" in shown
    assert b"jobcast: the latest 1 are shown; use --limit to see more\n" in shown


@pytest.mark.parametrize("how", [["--no-color"], []], ids=["option", "environment"])
async def test_without_colors_there_are_none(environment: dict[str, str], teller: Teller, how: list[str]) -> None:
    await teller.tell(event("running", "a"))
    more = {} if how else {"NO_COLOR": "1"}
    shown, _ = await at_a_terminal(environment | more, "list", *how)
    assert b"running" in shown
    assert b"\x1b[36m" not in shown
    colored, _ = await at_a_terminal(environment, "list")
    assert b"\x1b[36m" in colored
