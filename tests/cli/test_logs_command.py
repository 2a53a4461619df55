"""jobcast logs, as a process."""

import asyncio
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobcast.event import Attempt, Log
from testbed.ports import free_port
from tests.cli.conftest import JOBCAST, at_a_terminal
from tests.client.keeping import LogKeeper, place, unkept
from tests.client.telling import Teller, event

EXACT = b"one\r\n\x1b[31mred\x1b[0m\x00\xff\tafter\n\nno end of line"
Run = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture
def run(environment: dict[str, str]) -> Run:
    """Run it to its end, its output being bytes."""

    def run(*arguments: str, **more: str) -> "subprocess.CompletedProcess[bytes]":
        command = [JOBCAST, "logs", "42", *arguments]
        return subprocess.run(command, capture_output=True, env=environment | more, timeout=60)

    return run


async def kept(teller: Teller, data: bytes, store: str = "redis", **more: Any) -> Log:
    """Of an evaluation that failed with this log."""
    await teller.tell(event("running"))
    log = await LogKeeper(teller.ledger, event("running").job, store=store).keep(data)
    await teller.tell(event("failed", log=log, **more))
    return log


@pytest.mark.must_survive(17)
@pytest.mark.parametrize("store", ["redis", "file"])
async def test_the_exact_bytes_go_to_a_pipe(run: Run, teller: Teller, store: str, tmp_path: Path) -> None:
    await kept(teller, EXACT, "redis" if store == "redis" else f"file://{tmp_path}")
    result = run()
    assert (result.stdout, result.stderr, result.returncode) == (EXACT, b"", 0)


async def test_at_a_terminal_nothing_of_it_moves_the_terminal(environment: dict[str, str], teller: Teller) -> None:
    await kept(teller, EXACT)
    shown, code = await at_a_terminal(environment, "logs", "42")
    assert shown.decode() == "one\nred\\x00\ufffd        after\n\nno end of line\n"
    assert code == 0


async def test_raw_gives_a_terminal_the_bytes_too(environment: dict[str, str], teller: Teller) -> None:
    await kept(teller, EXACT)
    shown, code = await at_a_terminal(environment, "logs", "42", "--raw")
    assert (shown, code) == (EXACT, 0)


async def test_an_attempt_a_container_an_instance_and_a_job_may_be_chosen(run: Run, teller: Teller) -> None:
    job = event("running").job
    keeper = LogKeeper(teller.ledger, job)
    await teller.tell(event("running"))
    for pod, container, instance in (("a", "main", 0), ("a", "main", 1), ("b", "main", 0), ("b", "agent", 0)):
        await keeper.keep(f"{pod} {container} {instance}".encode(), pod, container, instance)
    attempts = [Attempt(pod="b", container="main"), Attempt(pod="a", container="main", restarts=1)]
    await teller.tell(event("failed", attempts=attempts))
    assert run().stdout == b"a main 1"
    assert run("--attempt", "1").stdout == b"b main 0"
    assert run("--attempt", "1", "--container", "agent").stdout == b"b agent 0"
    assert run("--instance", "0", "--job", job.name).stdout == b"a main 0"
    result = run("--attempt", "3")
    assert (result.stdout, result.returncode) == (b"", 1)
    assert result.stderr == b"jobcast: evaluation '42' has no attempt 3; there are 2\n"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"output_truncated": True}, "this is an excerpt of it"),
        ({}, "this is what was read"),
        (
            {"metadata": {"job_name": "eval-42", "log_source": "termination-message"}},
            "this is the container's termination message",
        ),
    ],
)
async def test_a_log_that_is_not_kept_is_replaced_by_what_the_event_has_of_it(
    run: Run, teller: Teller, more: dict[str, Any], said: str
) -> None:
    await teller.tell(event("failed", output="last words é\x1b[2J\n", log=unkept("pod-gone"), **more))
    result = run()
    assert result.stdout.decode() == "last words é\x1b[2J\n"
    assert result.stderr.decode() == (
        "jobcast: the log of pod-a/main is not kept: the Pod was deleted or evicted, or went with its node; "
        + said
        + "\n"
    )
    assert result.returncode == 1


async def test_an_excerpt_at_a_terminal_is_escaped_too(environment: dict[str, str], teller: Teller) -> None:
    await teller.tell(event("failed", output="last\x1b[2J words\x07", log=unkept("pod-gone")))
    shown, code = await at_a_terminal(environment, "logs", "42")
    assert shown.startswith(b"last words\\x07\njobcast: the log of pod-a/main is not kept")
    assert code == 1


async def test_the_excerpt_of_another_log_does_not_stand_in(run: Run, teller: Teller) -> None:
    other = unkept("container-gone", "pod-b")
    attempts = [Attempt(pod="pod-b", container="main", logs=[other]), Attempt(pod="pod-a", container="main")]
    await teller.tell(event("failed", output="of pod-a", log=unkept("pod-gone"), attempts=attempts))
    result = run("--attempt", "1")
    assert (result.stdout, result.returncode) == (b"", 1)
    assert b"the log of pod-b/main is not kept: it was no longer on the container's node\n" in result.stderr


async def test_what_was_cut_is_written_as_far_as_it_is_kept_and_said_to_be_cut(run: Run, teller: Teller) -> None:
    await kept(teller, b"x" * 5_000_000)
    result = run()
    assert len(result.stdout) == 4 * 1024 * 1024
    assert result.stderr == (
        b"jobcast: the log of pod-a/main is not whole: it is longer than the log store accepts;"
        b" 4194304 of 5000000 bytes are kept\n"
    )
    assert result.returncode == 1


async def test_a_damaged_log_is_code_1_and_a_line(run: Run, teller: Teller) -> None:
    await teller.tell(event("running"))
    keeper = LogKeeper(teller.ledger, event("running").job)
    await teller.tell(event("failed", log=await keeper.keep(b"hello", sha256="0" * 64)))
    result = run()
    assert (result.stdout, result.returncode) == (b"hello", 1)
    assert result.stderr.startswith(b"jobcast: the log of pod-a/main is damaged: its sha256 is ")


async def test_a_store_that_cannot_be_reached_is_code_1_and_not_blamed_on_redis(run: Run, teller: Teller) -> None:
    log = Log(state="complete", source="pod-a/main", ref=f"s3://bucket/{place(event('failed'))}", bytes=1)
    await teller.tell(event("failed", log=log))
    result = run(
        AWS_ENDPOINT_URL=f"http://127.0.0.1:{free_port()}", AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="s3cret"
    )
    assert (result.stdout, result.returncode) == (b"", 1)
    assert result.stderr.startswith(b"jobcast: the log of pod-a/main: s3://bucket")
    assert b"s3cret" not in result.stderr


async def test_an_unknown_evaluation_is_code_1_and_a_line(run: Run, teller: Teller) -> None:
    result = run()
    assert (result.stdout, result.returncode) == (b"", 1)
    assert result.stderr == b"jobcast: evaluation '42' not found\n"


@pytest.mark.parametrize("how", ["", "--raw"])
async def test_it_ends_cleanly_when_its_reader_has_had_enough(
    environment: dict[str, str], teller: Teller, how: str
) -> None:
    await kept(teller, b"line\n" * 500_000)
    script = 'set -o pipefail; "$0" logs 42 $1 | head -n 1'
    result = await asyncio.to_thread(
        subprocess.run,
        ["bash", "-c", script, JOBCAST, how],
        capture_output=True,
        env=environment,
        timeout=30,
    )
    assert (result.stdout, result.stderr, result.returncode) == (b"line\n", b"", 0)
