"""jobcast submit, against an API server; the test plays the controller's part."""

import asyncio
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from devcluster import Fault
from jobcast.cli.app import app
from jobcast.event import Attempt
from jobcast.kube.api import _warning
from testbed.ports import free_port
from tests.api import is_finished, make_job, on_ghost_node
from tests.cli.cluster import Told, in_background
from tests.cli.conftest import Process
from tests.client.telling import event
from tests.conftest import eventually

Call = Callable[..., "subprocess.CompletedProcess[str]"]


async def test_it_shows_the_log_as_it_is_and_ends_as_the_evaluation_does(call: Call, told: Told) -> None:
    running = in_background(call, "submit", "-n", told.api.namespace, "--image", "busybox", "--eval-id", "a-1",
                            "--env", "WORD=hi there", "--", "sh", "-c", 'echo "$WORD"; echo é; printf end')  # fmt: skip
    await told.pod()
    await told.tell("completed", "a-1")
    result = await running
    assert (result.stdout, result.returncode) == ("hi there\né\nend", 0)
    created, end = result.stderr.splitlines()
    assert created == f"jobcast: created Job {told.api.namespace}/a-1 for evaluation 'a-1'"
    assert "completed  a-1" in end


@pytest.mark.parametrize("end", ["failed", "cancelled"])
async def test_its_exit_code_says_that_it_did_not_complete(call: Call, told: Told, end: str) -> None:
    running = in_background(call, "submit", "-n", told.api.namespace, "--image", "x", "--name", "a", "--", "true")
    await told.pod()
    await told.tell(end, "a", **({} if end == "cancelled" else {"output": ""}))
    result = await running
    assert (result.stdout, result.returncode) == ("", 1)
    assert f"{end}  " in result.stderr


async def test_what_kubernetes_says_stands_in_for_a_log_that_is_empty(call: Call, told: Told) -> None:
    running = in_background(call, "submit", "-n", told.api.namespace, "--image", "x", "--name", "a", "--", "true")
    await told.pod()
    attempts = [Attempt(pod="a-1", reason="StartError", message='exec: "true": not found')]
    await told.tell("failed", "a", output="", attempts=attempts)
    result = await running
    assert result.stderr.splitlines()[-2] == 'jobcast: a-1: exec: "true": not found'


async def test_the_end_of_an_earlier_job_of_the_evaluation_is_not_taken_for_this_ones(call: Call, told: Told) -> None:
    await told.teller.tell(event("failed", "a", uid="before"))
    running = in_background(
        call, "submit", "-n", told.api.namespace, "--image", "x", "--eval-id", "a", "--json", "--", "true"
    )
    await told.pod()
    await told.teller.tell(event("failed", "a", uid="another"))
    await told.tell("completed", "a")
    result = await running
    meta = (await told.job())["metadata"]
    assert f'"uid":"{meta["uid"]}"' in result.stdout
    assert (result.stdout.count("\n"), result.returncode) == (1, 0)


async def test_the_job_has_the_labels_that_are_watched_and_what_a_restricted_namespace_wants(
    call: Call, told: Told
) -> None:
    result = await in_background(
        call, "submit", "-n", told.api.namespace, "--image", "registry.example/team/scorer:1", "--eval-id", "Run 7/b",
        "--deadline", "60", "--ttl", "5", "--retries", "2", "--cpu", "500m", "--memory", "1Gi", "--detach", "--", "true",
    )  # fmt: skip
    assert (result.stdout, result.stderr, result.returncode) == ("Run 7/b\n", "", 0)
    job = await told.job()
    assert job["metadata"]["labels"]["app"] == "evaluation"
    assert job["metadata"]["annotations"]["eval-id"] == "Run 7/b", "it can be no label's value"
    assert job["metadata"]["name"].startswith("run-7-b-")
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    assert job["spec"]["template"]["metadata"]["labels"]["app"] == "evaluation"
    assert (spec["activeDeadlineSeconds"], spec["ttlSecondsAfterFinished"], spec["backoffLimit"]) == (60, 5, 2)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = pod["containers"]
    assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert container["resources"] == {amount: {"cpu": "500m", "memory": "1Gi"} for amount in ("requests", "limits")}
    assert (container["name"], container["command"]) == ("evaluation", ["true"])


OWN = {"kind": "scoring", "team": "a", "example.org/id": "one", "pipeline": "nightly"}


async def test_labels_are_those_of_the_installation(call: Call, told: Told) -> None:
    settings = {"LABEL_SELECTOR": "kind = scoring,team==a", "EVAL_ID_LABEL": "example.org/id"}
    arguments = ("submit", "-n", told.api.namespace, "--image", "x", "--name", "one", "--detach", "--json",
                 "--label", "pipeline=nightly")  # fmt: skip
    result = await asyncio.to_thread(call, *arguments, **settings)
    job = await told.job()
    assert job["metadata"]["labels"].items() >= OWN.items()
    assert yaml.safe_load(result.stdout) == {
        "eval_id": "one",
        "namespace": told.api.namespace,
        "name": "one",
        "uid": job["metadata"]["uid"],
    }


async def test_a_job_in_yaml_stays_as_it_is_but_for_labels(call: Call, told: Told, tmp_path: Path) -> None:
    own = make_job("mine", "echo hello", meta={"labels": {"team": "a"}}, backoffLimit=3)
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(own))
    running = in_background(call, "submit", "-n", told.api.namespace, "-f", str(path), "--eval-id", "b")
    await told.pod()
    await told.tell("completed", "b")
    result = await running
    assert (result.stdout, result.returncode) == ("hello\n", 0)
    job = await told.job()
    assert job["metadata"]["labels"].items() >= {"team": "a", "app": "evaluation", "eval-id": "b"}.items()
    assert job["spec"]["backoffLimit"] == 3
    assert "securityContext" not in job["spec"]["template"]["spec"]["containers"][0]


async def test_why_a_pod_cannot_start_is_said_once_while_it_waits(
    start: Callable[..., Process], told: Told, tmp_path: Path
) -> None:
    async with on_ghost_node(told.api) as node:
        path = tmp_path / "job.yaml"
        path.write_text(yaml.safe_dump(make_job("a", pod={"nodeName": node.name}, backoffLimit=0)))
        arguments = ("submit", "-n", told.api.namespace, "-f", str(path))
        running = start(*arguments, KUBECONFIG=str(tmp_path / "kubeconfig"))
        assert running.stderr is not None
        assert "created Job" in await asyncio.to_thread(running.stderr.readline)
        pod = (await told.pod(lambda pod: True))["metadata"]["name"]
        for reason in ("ErrImagePull", "ImagePullBackOff"):
            await waits(told, pod, reason)
            said = await asyncio.wait_for(asyncio.to_thread(running.stderr.readline), 60)
            assert said == f"jobcast: {pod} waits: {reason}: no such image\n"
        await waits(told, pod, "ErrImagePull")
        await waits(told, pod, "InvalidImageName")
        assert "InvalidImageName" in await asyncio.wait_for(asyncio.to_thread(running.stderr.readline), 60)


async def waits(told: Told, pod: str, reason: str) -> None:
    container = {"name": "main", "image": "nope", "imageID": "", "ready": False, "restartCount": 0}
    state = {"waiting": {"reason": reason, "message": "no such image"}}
    status = {"phase": "Pending", "containerStatuses": [{**container, "state": state}]}
    await told.api.patch(f"{told.api.pods}/{pod}/status", {"status": status})


async def test_an_end_that_no_process_publishes_is_said_once(
    call: Call, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr("jobcast.cli.follow.pods.UNPUBLISHED_SECONDS", 0.0)
    monkeypatch.setattr("jobcast.cli.follow.pods.POLL_SECONDS", 0.02)
    monkeypatch.setattr("jobcast.cli.render.log_screen.complain", said.append)
    running = in_background(call, "submit", "-n", told.api.namespace, "--image", "x", "--name", "a", "--", "true")
    await eventually(lambda: said)
    await told.tell("completed", "a")
    assert (await running).returncode == 0
    where = f"namespace {told.api.namespace}"
    assert said == [f"the Job has ended (Complete), but its end is not published; does a controller watch {where}?"]


async def test_ctrl_c_leaves_the_job_alone_and_says_so(
    start: Callable[..., Process], told: Told, tmp_path: Path
) -> None:
    running = start(
        "submit", "-n", told.api.namespace, "--image", "x", "--name", "a", "--", "sleep", "600",
        KUBECONFIG=str(tmp_path / "kubeconfig"),
    )  # fmt: skip
    assert running.stderr is not None
    assert "created Job" in await asyncio.to_thread(running.stderr.readline)
    running.send_signal(signal.SIGINT)
    out, err = await asyncio.to_thread(running.communicate, timeout=60)
    assert (out, err, running.returncode) == (
        "",
        "jobcast: the Job goes on; wait for its end with: jobcast wait a\n",
        130,
    )
    assert not is_finished(await told.job())


@pytest.mark.parametrize(
    ("header", "text"),
    [
        (
            '299 - "would violate PodSecurity \\"restricted:latest\\": x"',
            'would violate PodSecurity "restricted:latest": x',
        ),
        ("something else", "something else"),
    ],
)
def test_a_warning_of_the_api_server_is_read(header: str, text: str) -> None:
    assert _warning(header) == text


async def test_a_job_that_cannot_be_made_is_code_1_and_a_line(call: Call, told: Told) -> None:
    arguments = ("submit", "--image", "x", "--name", "a", "--detach", "-n")
    assert (await in_background(call, *arguments, told.api.namespace)).returncode == 0
    again = await in_background(call, *arguments, told.api.namespace)
    assert (again.returncode, again.stdout) == (1, "")
    assert again.stderr.endswith(f": Job {told.api.namespace}/a already exists; choose another --name, or delete it\n")
    nowhere = await in_background(call, *arguments, "nowhere")
    assert (nowhere.returncode, nowhere.stderr.count("\n")) == (1, 1)
    assert 'namespaces "nowhere" not found' in nowhere.stderr
    cluster = told.api.devcluster
    assert cluster is not None
    cluster.faults.add(Fault(kind="status", verb="create", resource="jobs", code=403))
    forbidden = await in_background(call, *arguments, told.api.namespace)
    assert (forbidden.returncode, forbidden.stderr.count("\n")) == (1, 1)
    assert "forbidden" in forbidden.stderr.lower()


async def test_no_job_is_made_where_no_process_could_see_its_end(call: Call, told: Told) -> None:
    url = f"redis://127.0.0.1:{free_port()}"
    result = await asyncio.to_thread(
        call, "submit", "-n", told.api.namespace, "--image", "x", "--name", "a", REDIS_URL=url
    )
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("jobcast: Redis at 127.0.0.1:")
    assert (await told.api.get(told.api.jobs))["items"] == []


JOB = yaml.safe_dump(make_job("a"))


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("kind: [", "--file: it is not YAML: "),
        ("", "--file: it must contain one Job, and contains no documents"),
        (f"{JOB}---\n{JOB}", "--file: it must contain one Job, and contains 2 documents"),
        ("apiVersion: v1\nkind: Pod", "--file: it must be a Job of batch/v1, and is v1 Pod"),
        ("- 1", "--file: it must be a Job of batch/v1, and is not an object"),
        (JOB.replace("name: a\n", "name: a\n  labels: {n: 1}\n", 1), "--file: metadata.labels must be strings"),
        (JOB.replace("name: a\n", "name: a\n  labels: {app: web}\n", 1), "metadata.labels: app is 'web', and"),
        (JOB.replace("name: a\n", "name: 1\n", 1), "--file: metadata.name"),
        ("apiVersion: batch/v1\nkind: Job\nspec: 1", "--file: spec is not an object"),
    ],
)
def test_what_is_no_job_in_yaml_is_code_2_and_a_line(call: Call, tmp_path: Path, document: str, said: str) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(document)
    result = call("submit", "-f", str(path))
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert result.stderr.startswith(f"jobcast: {said}")


def test_a_job_may_come_by_standard_input(environment: dict[str, str]) -> None:
    result = CliRunner().invoke(app, ["submit", "-f", "-"], input="kind: Pod", env=environment)
    assert (result.exit_code, result.stderr) == (2, "jobcast: --file: it must be a Job of batch/v1, and is None Pod\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--image: give the image to run"),
        (["-f", "missing"], "--file: missing: No such file or directory"),
        (["-f", "x", "--image", "y"], "--file: it excludes the options for an image"),
        (["-f", "x", "--", "true"], "--file: it excludes the options for an image"),
        (["--image", "x", "--name", "No Name"], "--name: 'No Name' is not a Job name"),
        (["--image", "x", "--eval-id", ""], "--eval-id: it must be"),
        (["--image", "x", "--label", "A"], "--label: 'A' is not NAME=VALUE"),
        (["--image", "x", "--env", "A"], "--env: 'A' is not NAME=VALUE"),
        (["--image", "x", "--memory", "much"], "--memory: 'much' is not a quantity"),
    ],
)
def test_what_cannot_be_meant_is_code_2_and_a_line(call: Call, arguments: list[str], said: str) -> None:
    result = call("submit", *arguments)
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert result.stderr.startswith(f"jobcast: {said}")


def test_a_selector_that_is_no_label_is_said(call: Call) -> None:
    result = call("submit", "--image", "x", LABEL_SELECTOR="app=evaluation,team in (a,b)")
    assert result.returncode == 2
    assert "'app=evaluation,team in (a,b)' has a requirement that is not name=value" in result.stderr
    assert "name=value" in result.stderr
