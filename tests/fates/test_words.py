"""What people write on Jobs: annotations that help, annotations that lie, and one id on several Jobs."""

import asyncio
import json
import time

import pytest

from tests.fates.fate import Fate


async def test_names_its_artifacts(fate: Fate) -> None:
    artifacts = [{"name": "model", "location": "s3://bucket/model"}, {"name": "report", "location": "s3://bucket/r"}]
    job = await fate.run(annotations={"jobcast/artifacts": json.dumps(artifacts), "timeout": "90"})
    end = await fate.ends(job, "running", "completed 0")
    assert (end["artifacts"], end["warnings"]) == (artifacts, [])
    assert fate.events(job)[0]["timeout"] == 90.0


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        ("jobcast/container", "nobody"),
        ("jobcast/artifacts", "{not json"),
        ("jobcast/artifacts", '{"name": "x"}'),
        ("timeout", "soon"),
    ],
)
async def test_has_an_annotation_that_lies(fate: Fate, annotation: str, value: str) -> None:
    job = await fate.run("echo done", annotations={annotation: value})
    end = await fate.ends(job, "running", "completed 0")
    (warning,) = end["warnings"]
    assert annotation in warning
    assert "\n" not in warning
    assert end["artifacts"] == []
    await fate.is_log(end["log"], b"done\n")


async def test_shares_its_id_with_others(fate: Fate) -> None:
    jobs = []
    for number in range(3):
        jobs.append(await fate.run(f"echo {number}; exit {number % 2}", name=f"job-{number}", eval_id=fate.eval_id()))
        end = await fate.ends(jobs[-1], "running", ["completed 0", "failed 1 BackoffLimitExceeded"][number % 2])
        await fate.is_log(end["log"], f"{number}\n".encode())
        # Ages are whole seconds, and the newest is to be the newest beyond doubt.
        while time.time() < end["timestamp"] + 1:
            await asyncio.sleep(0.05)
    record = await fate.record(jobs[0])
    assert (record["uid"], record["name"], record["status"]) == (jobs[2].uid, "job-2", "completed")
    listed = {name.removeprefix("job:"): text.split(" ") for name, text in record.items() if name.startswith("job:")}
    in_order = sorted(listed, key=lambda uid: float(listed[uid][0]))
    assert in_order == [job.uid for job in jobs]
    assert [listed[uid][1:] for uid in in_order] == [
        ["completed", f"{fate.api.namespace}/job-0"],
        ["failed", f"{fate.api.namespace}/job-1"],
        ["completed", f"{fate.api.namespace}/job-2"],
    ]
