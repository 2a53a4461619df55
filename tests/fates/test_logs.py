"""What containers print, to the byte."""

import json
from pathlib import Path

import pytest

from tests.api import on_ghost_node, running_by_hand
from tests.conftest import eventually
from tests.fates.fate import Fate

MEGABYTE = 1 << 20


@pytest.mark.must_survive(23)
async def test_prints_nothing(fate: Fate) -> None:
    job = await fate.run("true")
    end = await fate.ends(job, "running", "completed 0")
    await fate.is_log(end["log"], b"")
    assert end["output"] == ""


@pytest.mark.must_survive(17)
@pytest.mark.parametrize(
    ("script", "exact", "shown"),
    [
        pytest.param(
            """echo '{"score": 0.5, "why": "caf\\u00e9"}'""", b'{"score": 0.5, "why": "caf\\u00e9"}\n', None, id="json"
        ),
        pytest.param(r"printf '\377\376 \200\n\000'", b"\xff\xfe \x80\n\x00", "�� �\n\x00", id="not UTF-8"),
        pytest.param(r"printf '\033[31mred\033[0m\rover\n'", b"\x1b[31mred\x1b[0m\rover\n", None, id="ANSI"),
        pytest.param("printf 'no newline'", b"no newline", None, id="no newline at the end"),
        pytest.param("echo Grüße, 世界", "Grüße, 世界\n".encode(), None, id="UTF-8"),
        pytest.param(
            "echo out; sleep 0.2; echo err >&2; sleep 0.2; echo out", b"out\nerr\nout\n", None, id="both streams"
        ),
    ],
)
async def test_prints_bytes(fate: Fate, script: str, exact: bytes, shown: str | None) -> None:
    job = await fate.run(script)
    end = await fate.ends(job, "running", "completed 0")
    await fate.is_log(end["log"], exact)
    assert end["output"] == (exact.decode() if shown is None else shown)


@pytest.mark.must_survive(18)
@pytest.mark.timeout(400)
async def test_prints_one_line_of_fifty_megabytes(fate: Fate) -> None:
    size = 50 * MEGABYTE
    for number in range(4):
        job = await fate.run(f"head -c {size} /dev/zero | tr '\\0' x", name=f"job-{number}")
        end = await fate.ends(job, "running", "completed 0")
        # A kubelet that looks at that very moment takes most of it away, and of a container that lives so shortly nobody
        # can tell (docs/known-flaws.md).
        if end["log"]["bytes"] == size:
            break
    await fate.is_log(end["log"], b"x" * size, "truncated", "store-limit")
    assert end["output_truncated"]
    assert len(end["output"]) < 66_000
    assert len(json.dumps(end)) < 200_000


@pytest.mark.must_survive(21)
async def test_prints_more_than_the_kubelet_keeps(fate: Fate, tmp_path: Path) -> None:
    chunk, pause, times = (MEGABYTE, 1.0, 24) if fate.stage.is_real else (MEGABYTE // 4, 0.1, 80)
    gate = tmp_path / "gate"
    # devcluster's containers are processes of this machine: much is printed from when its first line was seen. On a node it
    # takes longer to print so much than to see it.
    wait = "" if fate.stage.is_real else f"echo 0; while [ ! -e {gate} ]; do sleep 0.1; done; "
    script = f"i=0; while [ $i -lt {times} ]; do i=$((i+1)); head -c {chunk} /dev/zero | tr '\\0' x; echo $i; sleep {pause}; done"
    job = await fate.run(wait + script)
    await eventually(lambda: fate.has_seen_first_line(job), fate.stage.seconds)
    gate.touch()
    end = await fate.ends(job, "running", "completed 0")
    log = end["log"]
    assert (log["state"], log["reason"]) == ("truncated", "rotated")
    assert 0 < log["bytes"] < times * chunk
    assert end["output"].endswith(f"x{times}\n")


@pytest.mark.must_survive(19, 22)
async def test_leaves_last_words_and_no_log(fate: Fate) -> None:
    """By hand: a Pod whose node cannot be asked any more, so that its log is tried for as long as an end may wait."""
    async with on_ghost_node(fate.api) as node:
        job = await fate.run(pod={"nodeName": node.name})
        pod = (await fate.api.pod_of(job.name))["metadata"]["name"]
        status = running_by_hand("main")
        await fate.api.patch(f"{fate.api.pods}/{pod}/status", status)
        await fate.until(job, "running")
        published = status["status"]["containerStatuses"][0]
        started = published["state"]["running"]["startedAt"]
        ended = {
            "exitCode": 3,
            "reason": "Error",
            "message": "out of cheese\n",
            "startedAt": started,
            "finishedAt": started,
        }
        published |= {"ready": False, "started": False, "state": {"terminated": ended}}
        change = {"phase": "Failed", "conditions": [], "containerStatuses": [published]}
        await fate.api.patch(f"{fate.api.pods}/{pod}/status", {"status": change})
        await fate.api.ended(job.name)
        other = await fate.run("echo meanwhile", name="other")
        await fate.is_log((await fate.ends(other, "running", "completed 0"))["log"], b"meanwhile\n")
        if not fate.stage.is_real:  # where a Job may take longer than that
            assert fate.told_of(job) == ["running"], "it waits for its log, and nobody else does"
        end = await fate.ends(job, "running", "failed 3 BackoffLimitExceeded")
    assert (end["log"]["state"], end["output"]) == ("unavailable", "out of cheese\n")
    assert end["metadata"]["log_source"] == "termination-message"
    assert end["attempts"][0]["message"] == "out of cheese\n"


async def test_leaves_last_words_and_a_log(fate: Fate) -> None:
    env = [{"name": "SAY", "value": "/dev/termination-log"}]
    job = await fate.run("echo log; echo said > $SAY; exit 3", main={"env": env})
    end = await fate.ends(job, "running", "failed 3 BackoffLimitExceeded")
    await fate.is_log(end["log"], b"log\n")
    assert (end["output"], end["attempts"][0]["message"]) == ("log\n", "said\n")
