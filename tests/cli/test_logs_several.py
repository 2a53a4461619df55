"""jobcast logs of several Pods or evaluations: each line says where it is from."""

import asyncio
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobcast.cli.render.log_screen import Exact, LiveScreen, PrefixedScreen
from jobcast.event import JobRef
from tests.api import evaluation
from tests.cli.cluster import Told, in_background
from tests.cli.conftest import Process, at_a_terminal
from tests.client.keeping import LogKeeper
from tests.client.telling import Teller, event

Call = Callable[..., "subprocess.CompletedProcess[str]"]
INDEXED = {"completions": 3, "parallelism": 3, "completionMode": "Indexed"}


async def known(told: Told, name: str, script: str, labels: dict[str, str] | None = None, **spec: Any) -> JobRef:
    """A Job that has a record."""
    body = evaluation(name, script, **spec)
    body["metadata"]["labels"] |= labels or {}
    created = await told.api.create(body)
    meta = (
        created["metadata"]
        if isinstance(created, dict)
        else (await told.api.get(f"{told.api.jobs}/{name}"))["metadata"]
    )
    ref = JobRef(meta["namespace"], meta["name"], meta["uid"])
    await told.teller.see(name, ref)
    return ref


async def followed(
    start: Callable[..., Process], told: Told, tmp_path: Path, refs: list[JobRef], lines: int, *arguments: str
) -> "subprocess.CompletedProcess[str]":
    """`logs -f`, whose Pods end only when so many lines of it were written."""
    process = start("logs", "-f", *arguments, KUBECONFIG=str(tmp_path / "kubeconfig"))
    assert process.stdout is not None
    begun = ""
    for _ in range(lines):
        begun += await asyncio.wait_for(asyncio.to_thread(process.stdout.readline), 60)
    (tmp_path / "go").touch()
    for ref in refs:
        await told.api.ended(ref.name)
        await told.teller.tell(event("completed", ref.name, uid=ref.uid, job=ref))
    out, err = await asyncio.to_thread(process.communicate, timeout=60)
    return subprocess.CompletedProcess(arguments, process.returncode, begun + out, err)


def waiting(tmp_path: Path) -> str:
    """A script that prints a line, and ends its second one once it may."""
    return f"echo first; while [ ! -e {tmp_path / 'go'} ]; do sleep 0.02; done; printf second"


async def test_all_pods_of_an_indexed_job_are_followed_at_once_each_line_with_pod_and_index(
    start: Callable[..., Process], told: Told, tmp_path: Path
) -> None:
    ref = await known(told, "a", waiting(tmp_path), **INDEXED)
    result = await followed(start, told, tmp_path, [ref], 3, "a")
    assert (result.stderr, result.returncode) == ("", 0)
    found: dict[str, list[str]] = {}
    for line in result.stdout.splitlines():
        label, _, text = line.partition(" ")
        found.setdefault(label, []).append(text)
    assert sorted(label.rpartition("/")[2] for label in found) == ["0", "1", "2"]
    assert all(label.startswith("a-") for label in found)
    assert list(found.values()) == [["first", "second"]] * 3


async def test_without_prefix_the_lines_are_as_they_were_printed(
    start: Callable[..., Process], told: Told, tmp_path: Path
) -> None:
    ref = await known(told, "a", waiting(tmp_path), **INDEXED)
    result = await followed(start, told, tmp_path, [ref], 3, "a", "--no-pod-prefix")
    assert sorted(result.stdout.splitlines()) == ["first"] * 3 + ["second"] * 3


async def test_several_evaluations_are_followed_at_once(
    start: Callable[..., Process], told: Told, tmp_path: Path
) -> None:
    refs = [await known(told, name, waiting(tmp_path)) for name in ("a", "b")]
    result = await followed(start, told, tmp_path, refs, 2, "a", "b")
    assert (result.stderr, result.returncode) == ("", 0)
    lines = sorted((line[:2], line.partition(" ")[2]) for line in result.stdout.splitlines())
    assert lines == [("a-", "first"), ("a-", "second"), ("b-", "first"), ("b-", "second")]


async def test_open_jobs_are_chosen_by_any_label_in_the_cluster(
    start: Callable[..., Process], told: Told, tmp_path: Path
) -> None:
    chosen = await known(told, "a", waiting(tmp_path), {"team": "x"})
    await known(told, "b", waiting(tmp_path), {"team": "y"})
    where = ("-n", told.api.namespace)
    result = await followed(start, told, tmp_path, [chosen], 1, *where, "-l", "team=x")
    assert (result.stdout, result.returncode) == ("first\nsecond", 0)
    nothing = await followed(start, told, tmp_path, [], 0, *where, "-l", "team=z")
    assert (nothing.returncode, nothing.stderr) == (1, "jobcast: No open evaluations found.\n")


async def test_stored_logs_of_several_evaluations_have_their_ids_before_each_line(call: Call, teller: Teller) -> None:
    for name in ("a", "b"):
        of = event("running", name)
        log = await LogKeeper(teller.ledger, of.job, name).keep(f"one\r\n{name}".encode())
        await teller.tell(event("completed", name, log=log, metadata={"team": "x"}))
    result = await in_background(call, "logs", "a", "b")
    assert (result.stdout, result.stderr, result.returncode) == ("a one\na a\nb one\nb b\n", "", 0)
    assert (await in_background(call, "logs", "-l", "team=x")).returncode == 0
    assert (await in_background(call, "logs", "a", "--pod-prefix")).stdout == "a one\na a\n"
    assert (await in_background(call, "logs", "a", "b", "--no-pod-prefix")).stdout == "one\naone\nb"


async def test_at_a_terminal_each_has_a_color_and_control_characters_are_escaped(
    environment: dict[str, str], teller: Teller
) -> None:
    for name in ("a", "b"):
        log = await LogKeeper(teller.ledger, event("running", name).job, name).keep(b"x\x1b[2J\x07\n")
        await teller.tell(event("completed", name, log=log))
    shown, code = await at_a_terminal(environment, "logs", "a", "b")
    assert code == 0
    assert shown == b"\x1b[36ma\x1b[0m x\\x07\n\x1b[32mb\x1b[0m x\\x07\n"
    plain, _ = await at_a_terminal(environment | {"NO_COLOR": "1"}, "logs", "a", "b")
    assert plain == b"a x\\x07\nb x\\x07\n"


@pytest.mark.parametrize("cut", [1, 3, 100])
def test_lines_stay_whole_however_the_chunks_of_several_logs_fall(cut: int) -> None:
    written: list[bytes] = []

    class Sink(Exact):
        def write_line(self, label: str, line: bytes) -> None:
            written.append(label.encode() + b":" + line)

    screen = LiveScreen(Sink())
    logs = [(PrefixedScreen(screen, label), label.encode() * 5 + b"\n\n" + label.encode() * 4) for label in ("a", "b")]
    for at in range(0, 12, cut):
        for log, text in logs:
            log.write(text[at : at + cut])
    for log, _ in logs:
        log.flush(is_end=True)
    assert sorted(written) == [b"a:", b"a:aaaa", b"a:aaaaa", b"b:", b"b:bbbb", b"b:bbbbb"]
