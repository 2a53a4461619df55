"""jobcast get, as a process."""

import json
import subprocess
from collections.abc import Callable

import pytest
import redis

from jobcast.event import Attempt, Log
from jobcast.wire import encode
from tests.client.telling import Teller, event
from tests.conftest import ValkeyServer

Run = Callable[..., "subprocess.CompletedProcess[str]"]


async def test_for_programs_it_is_the_record_with_the_event_as_on_the_wire(run: Run, teller: Teller) -> None:
    told = event("completed")
    await teller.tell(told)
    result = run("get", "42", "--json")
    assert (result.returncode, result.stderr, result.stdout.count("\n")) == (0, "", 1)
    assert encode(told).decode() in result.stdout
    assert json.loads(result.stdout) == {
        "eval_id": "42",
        "status": "completed",
        "namespace": "evals",
        "name": "eval-42",
        "uid": told.job.uid,
        "event": json.loads(encode(told)),
    }


async def test_people_see_what_is_known_and_the_output_last(run: Run, teller: Teller) -> None:
    await teller.tell(
        event(
            "failed",
            exit_code=None,
            error="DeadlineExceeded: too [red]long",
            reason="DeadlineExceeded",
            duration_seconds=3725.0,
            output="one\n\ttwo\x1b[2J\n",
            output_truncated=True,
            attempts=[Attempt(pod="pod-a", exit_code=137, reason="OOMKilled", restarts=1)],
            log=Log(state="truncated", reason="store-limit", bytes=12),
        )
    )
    result = run("get", "42")
    assert (result.returncode, result.stderr) == (0, "")
    table, _, output = result.stdout.replace("exit code", "exit-code").partition("output, an excerpt\n")
    rows = dict(line.split(None, 1) for line in table.splitlines())
    assert rows["status"].strip() == "failed"
    assert rows["exit-code"].strip() == "unknown"
    assert rows["duration"].strip() == "1 h 2 min"
    assert rows["error"].strip() == "DeadlineExceeded: too [red]long"
    assert rows["attempt"].strip() == "pod-a  exit 137  OOMKilled  1 restarts"
    assert rows["log"].strip() == "truncated, 12 bytes (store-limit)"
    assert output == "  one\n          two\n"


async def test_a_job_of_which_nothing_is_told_is_shown_as_pending(run: Run, teller: Teller) -> None:
    await teller.see("42", event("running").job)
    assert "pending" in run("get", "42").stdout
    assert json.loads(run("get", "42", "--json").stdout)["event"] is None


async def test_an_event_of_a_later_version_is_shown_to_programs_as_it_is(
    run: Run, teller: Teller, valkey: ValkeyServer
) -> None:
    with redis.Redis(port=valkey.port) as client:
        key = teller.keys.evaluation("42")
        client.hset(key, mapping={"status": "archived", "event": b'{"status":"archived","new":1}'})
        assert json.loads(run("get", "42", "--json").stdout)["event"] == {"status": "archived", "new": 1}
        assert "not readable by this version" in run("get", "42").stdout
        client.hset(key, "event", b"rubbish")
        assert json.loads(run("get", "42", "--json").stdout)["event"] is None


@pytest.mark.parametrize("how", [[], ["--json"]])
def test_an_evaluation_nobody_knows_is_code_1_and_a_line(
    run: Run, prefix: str, valkey: ValkeyServer, how: list[str]
) -> None:
    result = run("get", "n\x1b[2Jo", *how)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        f"jobcast: nothing is known of evaluation 'n\\x1b[2Jo' at 127.0.0.1:{valkey.port}, prefix {prefix}\n"
    )
