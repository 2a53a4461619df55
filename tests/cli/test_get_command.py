"""jobcast get, as a process."""

import json
import subprocess
from collections.abc import Callable

import msgspec
import pytest
import redis

from jobcast.cli.render.output import escape
from jobcast.event import Artifact, Attempt, Log
from jobcast.wire import encode
from testbed.valkey import ValkeyServer
from tests.cli.conftest import at_a_terminal
from tests.client.keeping import LogKeeper, unkept
from tests.client.telling import BIRTH, Teller, event

Run = Callable[..., "subprocess.CompletedProcess[str]"]
ATTEMPTS = [
    Attempt(
        pod="pod-a",
        index=0,
        started_at="2026-11-20T10:00:01Z",
        finished_at="2026-11-20T10:00:30Z",
        exit_code=1,
        reason="Error",
        restarts=1,
        container="main",
        message="no\x1b[2J model\nmore",
    ),
    Attempt(
        pod="pod-b",
        index=1,
        reason="ErrImagePull",
        container="fetch",
        role="init",
        logs=[unkept("pod-gone", "pod-b", "fetch")],
    ),
]


async def set_life(valkey: ValkeyServer, teller: Teller) -> None:
    with redis.Redis(port=valkey.port) as client:
        client.hset(
            teller.keys.evaluation("42"),
            mapping={
                "waiting": b'{"reason":"ErrImagePull","message":"no \\u001b[2Jimage","pod":"pod-b"}',
                "started_at": "2026-11-20T10:00:01Z",
                "attempts": msgspec.json.encode(ATTEMPTS),
                "indexes": b'{"completed":"0-2","failed":"","total":10}',
            },
        )


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
        "waiting": None,
        "started_at": None,
        "attempts": [],
        "indexes": None,
        "logs": [],
        "jobs": [
            {
                "uid": told.job.uid,
                "namespace": "evals",
                "name": "eval-42",
                "created": BIRTH,
                "status": "completed",
            }
        ],
        "event": json.loads(encode(told)),
    }


async def test_for_programs_the_whole_life_is_there_while_the_job_is_open(
    run: Run, teller: Teller, valkey: ValkeyServer
) -> None:
    await teller.tell(event("running"))
    await set_life(valkey, teller)
    log = await LogKeeper(teller.ledger, event("running").job).keep(b"hello", "pod-a")
    record = json.loads(run("get", "42", "--json").stdout)
    assert record["waiting"] == {"reason": "ErrImagePull", "message": "no \x1b[2Jimage", "pod": "pod-b"}
    assert record["started_at"] == "2026-11-20T10:00:01Z"
    assert record["attempts"] == [msgspec.to_builtins(attempt) for attempt in ATTEMPTS]
    assert record["indexes"] == {"completed": "0-2", "failed": "", "total": 10}
    assert record["logs"] == [msgspec.to_builtins(log)]


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
            log=Log(state="truncated", reason="store-limit", bytes=12, source="pod-a/main", ref="redis:x"),
            warnings=["annotation timeout: 'soon' is no \x07number"],
            artifacts=[Artifact(name="scores", location="s3://results/42")],
        )
    )
    result = run("get", "42")
    assert (result.returncode, result.stderr) == (0, "")
    table, _, output = (
        result.stdout.replace("exit code", "exit-code").replace("log kept", "kept").partition("output, an excerpt\n")
    )
    rows = dict(line.split(None, 1) for line in table.splitlines())
    assert rows["status"].strip() == "failed"
    assert rows["exit-code"].strip() == "unknown"
    assert rows["duration"].strip() == "1 h 2 min"
    assert rows["error"].strip() == "DeadlineExceeded: too [red]long"
    assert rows["log"].strip() == "truncated, 12 bytes (store-limit)"
    assert rows["kept"].split() == ["at", "redis:x"]
    assert rows["warning"].strip() == "annotation timeout: 'soon' is no \\x07number"
    assert rows["artifact"].strip() == "scores  s3://results/42"
    assert output == "  one\n          two\n"


async def test_people_see_why_an_open_job_waits_and_how_its_attempts_went(
    run: Run, teller: Teller, valkey: ValkeyServer
) -> None:
    await teller.tell(event("failed", uid="former"))
    await teller.tell(event("running"), created=BIRTH + 60)
    await set_life(valkey, teller)
    await LogKeeper(teller.ledger, event("running").job).keep(b"hello", "pod-a", instance=1)
    shown = run("get", "42").stdout.splitlines()
    facts = {line[:12].strip(): line[12:].strip() for line in shown}
    assert facts["former job"] == "evals/eval-42  former  2026-11-20T10:00:00Z  failed"
    assert facts["waiting"] == "pod-b  ErrImagePull: no image"
    assert facts["indexes"] == "completed 0-2  of 10"
    table = [" ".join(line.split()) for line in shown[shown.index("attempts") + 1 :]]
    assert table[0] == "pod index container exit reason restarts log started finished message"
    assert table[1] == "1 pod-a 0 main 1 Error 1 complete 2026-11-20T10:00:01Z 2026-11-20T10:00:30Z no model"
    assert table[2] == "2 pod-b 1 fetch (init) - ErrImagePull 0 unavailable (pod-gone) - - -"


async def test_a_job_of_which_nothing_is_published_is_shown_as_pending(run: Run, teller: Teller) -> None:
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
def test_an_unknown_evaluation_is_code_1_and_a_line(
    run: Run, prefix: str, valkey: ValkeyServer, how: list[str]
) -> None:
    result = run("get", "n\x1b[2Jo", *how)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        f"jobcast: evaluation 'n\\x1b[2Jo' not found at 127.0.0.1:{valkey.port}, prefix {prefix}\n"
    )


async def test_at_a_terminal_a_long_value_is_folded_and_elsewhere_it_is_whole(
    run: Run, teller: Teller, environment: dict[str, str]
) -> None:
    ref = "s3://bucket/" + "x" * 200
    await teller.tell(event("failed", log=Log(state="complete", source="pod-a/main", ref=ref)))
    assert f"log kept at  {ref}\n" in run("get", "42").stdout
    shown, code = await at_a_terminal(environment | {"COLUMNS": "60"}, "get", "42")
    lines = [escape(line) for line in shown.decode().splitlines() if "xxx" in line]
    assert len(lines) > 3
    assert max(map(len, lines)) <= 60
    assert code == 0
