"""jobcast logs --follow, against an API server; the test plays the controller's part."""

import asyncio
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devcluster import Fault
from jobcast.cli.follow.instances import Continued, Differs
from jobcast.event import Attempt, JobRef, Log
from tests.api import evaluation, is_running
from tests.cli.cluster import Told, in_background
from tests.cli.conftest import JOBCAST, Process
from tests.client.keeping import LogKeeper
from tests.client.telling import event
from tests.conftest import eventually

A_TIME = "2026-11-30T07:24:39.123456789Z "
"""What the kubelet writes before a line: only its length counts."""
Call = Callable[..., "subprocess.CompletedProcess[str]"]


async def known(told: Told, script: str, **spec: Any) -> JobRef:
    """A Job that somebody told of first."""
    await told.api.create(evaluation("a", script, **spec))
    meta = (await told.job())["metadata"]
    ref = JobRef(meta["namespace"], meta["name"], meta["uid"])
    await told.teller.see("a", ref)
    return ref


def logs_of(process: Process, count: int) -> "asyncio.Task[str]":
    """So many characters of its output, as soon as they are there."""
    assert process.stdout is not None
    return asyncio.create_task(asyncio.to_thread(process.stdout.read, count))


def faults(told: Told) -> Any:
    assert told.api.devcluster is not None
    return told.api.devcluster.faults


async def test_it_shows_what_is_printed_while_it_is_and_ends_with_the_evaluation(
    start: Callable[..., Process], told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = tmp_path / "go"
    await known(told, f"echo one; while [ ! -e {go} ]; do sleep 0.02; done; printf 'two\\r\\nend'")
    following = start("logs", "-f", "a", KUBECONFIG=str(tmp_path / "kubeconfig"))
    assert await asyncio.wait_for(logs_of(following, 4), 60) == "one\n"
    go.touch()
    await told.pod()
    await told.tell("completed", "a")
    out, err = await asyncio.to_thread(following.communicate, timeout=60)
    assert (out.replace("\r", ""), err, following.returncode) == ("two\nend", "", 0)


async def test_what_is_cut_is_read_on_without_losing_or_repeating_a_byte(call: Call, told: Told) -> None:
    script = "i=0; while [ $i -lt 400 ]; do echo line $i; i=$((i+1)); done; printf end"
    for after in (0, 1, 700, 701, 2000):
        faults(told).add(Fault(kind="cut", verb="log", after_bytes=after))
    await known(told, script)
    following = in_background(call, "logs", "-f", "a")
    await told.pod()
    await eventually(lambda: not faults(told).waiting())
    await told.tell("completed", "a")
    result = await following
    assert result.stdout == "".join(f"line {i}\n" for i in range(400)) + "end"
    assert (result.stderr, result.returncode) == ("", 0)


async def test_it_goes_on_with_the_next_attempt_and_says_so(
    start: Callable[..., Process], told: Told, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    await known(told, f"echo tried; while [ ! -e {go} ]; do sleep 0.02; done; exit 1", backoffLimit=1)
    following = start("logs", "-f", "a", KUBECONFIG=str(tmp_path / "kubeconfig"))
    assert await asyncio.wait_for(logs_of(following, 6), 60) == "tried\n"
    first = (await told.pod(is_running))["metadata"]["name"]
    go.touch()
    await told.api.ended("a")
    await told.tell("failed", "a")
    out, err = await asyncio.to_thread(following.communicate, timeout=60)
    assert (out, following.returncode) == ("tried\n", 0)
    (said,) = err.splitlines()
    assert said.startswith("jobcast: the log of a-")
    assert said.endswith("/main follows")
    assert first not in said


async def test_it_ends_cleanly_when_its_reader_has_had_enough(
    environment: dict[str, str], told: Told, tmp_path: Path
) -> None:
    await known(told, "while :; do echo line; sleep 0.05; done")
    script = 'set -o pipefail; "$0" logs -f a | head -n 1'
    more = {"KUBECONFIG": str(tmp_path / "kubeconfig")}
    result = await asyncio.to_thread(
        subprocess.run, ["bash", "-c", script, JOBCAST], capture_output=True, env=environment | more, timeout=90
    )
    assert (result.stdout, result.stderr, result.returncode) == (b"line\n", b"", 0)


async def test_a_job_that_is_deleted_is_followed_to_its_last_word(
    start: Callable[..., Process], told: Told, tmp_path: Path
) -> None:
    await known(told, "trap 'echo bye; exit 1' TERM; echo one; while :; do sleep 0.02; done")
    following = start("logs", "-f", "a", KUBECONFIG=str(tmp_path / "kubeconfig"))
    assert await asyncio.wait_for(logs_of(following, 4), 60) == "one\n"
    pod = (await told.pod(is_running))["metadata"]["name"]
    await told.tell("cancelled", "a")
    await told.api.delete(f"{told.api.jobs}/a")
    await told.api.gone(f"{told.api.pods}/{pod}")
    out, err = await asyncio.to_thread(following.communicate, timeout=60)
    assert out.endswith("bye\n")
    assert (err, following.returncode) == ("", 0)


async def stored(told: Told, ref: JobRef, data: bytes) -> Attempt:
    pod = (await told.pod())["metadata"]["name"]
    log = await LogKeeper(told.teller.ledger, ref, "a").keep(data, pod)
    return Attempt(pod=pod, container="main", logs=[log])


async def test_what_the_api_server_has_no_more_comes_from_the_log_store(call: Call, told: Told) -> None:
    faults(told).add(Fault(kind="cut", verb="log", after_bytes=5))
    faults(told).add(Fault(kind="status", verb="log", code=404, times=None))
    ref = await known(told, "echo one; echo two; echo three")
    following = in_background(call, "logs", "-f", "a")
    await eventually(lambda: len(faults(told).waiting()) == 1)
    attempt = await stored(told, ref, b"one\ntwo\nthree\n")
    await told.tell("completed", "a", attempts=[attempt])
    result = await following
    assert (result.stdout, result.stderr, result.returncode) == ("one\ntwo\nthree\n", "", 0)


async def test_what_no_process_has_is_said_to_be_missing(
    call: Call, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobcast.cli.follow.reading.STORE_SECONDS", 0.1)
    faults(told).add(Fault(kind="cut", verb="log", after_bytes=len(f"{A_TIME}one\n{A_TIME}t")))
    faults(told).add(Fault(kind="status", verb="log", code=404, times=None))
    await known(told, "echo one; echo two; echo three")
    following = in_background(call, "logs", "-f", "a")
    pod = (await told.pod())["metadata"]["name"]
    await eventually(lambda: len(faults(told).waiting()) == 1)
    await told.tell("completed", "a")
    result = await following
    assert (result.stdout, result.returncode) == ("one\nt", 1)
    assert result.stderr == f"jobcast: the log of {pod}/main is not whole here: nothing of it is stored\n"


async def test_what_came_after_the_end_of_the_stream_is_made_up_for(
    start: Callable[..., Process], told: Told, tmp_path: Path
) -> None:
    """As where an API server ended it in good order, and the container printed more before it ended."""
    ref = await known(told, "echo one")
    following = start("logs", "-f", "a", KUBECONFIG=str(tmp_path / "kubeconfig"))
    assert await asyncio.wait_for(logs_of(following, 4), 60) == "one\n"
    attempt = await stored(told, ref, b"one\nand more\n")
    await told.tell("completed", "a", attempts=[attempt])
    out, err = await asyncio.to_thread(following.communicate, timeout=60)
    assert (out, err, following.returncode) == ("and more\n", "", 0)


async def test_one_that_has_ended_is_shown_as_it_is_stored(call: Call, told: Told) -> None:
    ref = await known(told, "echo one")
    attempt = await stored(told, ref, b"what is stored")
    await told.tell("failed", "a", attempts=[attempt], log=attempt.logs[0])
    result = await in_background(call, "logs", "-f", "a")
    assert (result.stdout, result.stderr, result.returncode) == ("what is stored", "", 0)


async def test_without_a_cluster_it_waits_for_what_is_stored(call: Call, told: Told, tmp_path: Path) -> None:
    ref = await known(told, "echo one")
    attempt = await stored(told, ref, b"what is stored")
    missing = {"KUBECONFIG": str(tmp_path / "missing")}
    following = asyncio.create_task(asyncio.to_thread(call, "logs", "-f", "a", **missing))
    await told.tell("failed", "a", attempts=[attempt], log=attempt.logs[0])
    result = await following
    assert (result.stdout, result.returncode) == ("what is stored", 0)


async def test_an_unknown_evaluation_is_waited_for(start: Callable[..., Process], told: Told) -> None:
    following = start("logs", "-f", "42")
    assert following.stderr is not None
    said = await asyncio.to_thread(following.stderr.readline)
    assert said == "jobcast: evaluation '42' not found yet; waiting for it\n"
    await told.teller.tell(event("failed", output="all that is known\n", log=Log(source="a/main", bytes=17)))
    out, _ = await asyncio.to_thread(following.communicate, timeout=60)
    assert out == "all that is known\n"


def test_it_cannot_be_known_which_log(call: Call) -> None:
    result = call("logs", "-f", "a", "--attempt", "1")
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)


@given(st.binary(min_size=1, max_size=200), st.lists(st.integers(0, 200)), st.integers(1, 50))
def test_a_log_that_is_read_again_and_again_is_written_once(data: bytes, cuts: list[int], size: int) -> None:
    written: list[bytes] = []
    log = Continued(written.append)
    for end in (*cuts, len(data)):
        log.begin()
        for at in range(0, end, size):
            log.feed(data[at : min(at + size, end)])
    assert b"".join(written) == data
    assert log.size == len(data)


@given(st.binary(min_size=1, max_size=50), st.binary(min_size=1, max_size=50), st.integers(1, 20))
def test_nothing_of_another_log_is_written(data: bytes, other: bytes, size: int) -> None:
    written: list[bytes] = []
    log = Continued(written.append)
    log.begin()
    log.feed(data)
    log.begin()
    if other.startswith(data) or len(other) < len(data):
        return
    with pytest.raises(Differs):
        for at in range(0, len(other), size):
            log.feed(other[at : at + size])
    assert b"".join(written) == data
