"""What the containers of a Job's Pods find, and how their ends are published."""

from __future__ import annotations

from typing import Any

from tests.api import Api, Obj, container, is_over, is_running, make_job

from .test_status import run


async def test_the_pods_of_a_job_know_it(api: Api) -> None:
    created = await api.create(make_job("a", "sleep 30"))
    uid = created["metadata"]["uid"]
    pod = await api.pod_of("a", is_running)
    meta = pod["metadata"]
    assert meta["generateName"] == "a-"
    assert meta["finalizers"] == ["batch.kubernetes.io/job-tracking"]
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "a", "uid": uid}
    assert meta["ownerReferences"] == [{**owner, "controller": True, "blockOwnerDeletion": True}]
    assert meta["labels"] == created["spec"]["template"]["metadata"]["labels"]
    published = {c["type"]: c["status"] for c in pod["status"]["conditions"]}
    assert published == dict.fromkeys(
        ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"], "True"
    )
    assert pod["status"]["containerStatuses"][0]["state"]["running"]["startedAt"]


async def test_names_are_expanded_in_command_and_environment(api: Api) -> None:
    env = [
        {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
        {"name": "WHERE", "value": "in $(POD), not in $$(POD) nor $(NOWHERE)"},
    ]
    shown = "echo $WHERE; echo $HOSTNAME; echo $0; echo '$$ $$$$'"
    await api.create(make_job("a", pod={"containers": [container("main", shown, env=env, args=["$(POD)"])]}))
    await api.ended("a")
    pod = (await api.get(api.pods))["items"][0]["metadata"]["name"]
    _, text, _ = await api.raw("GET", f"{api.pods}/{pod}/log")
    where = f"in {api.namespace}, not in $(POD) nor $(NOWHERE)"
    assert text.decode().splitlines() == [where, pod, api.namespace, "$ $$"]


async def test_too_much_memory_is_reported_as_such(api: Api) -> None:
    limits = {"limits": {"memory": "32Mi"}}
    greedy = container("main", "tail /dev/zero", resources=limits)
    await run(api, make_job("a", pod={"containers": [greedy]}, backoffLimit=0))
    (pod,) = (await api.get(api.pods))["items"]
    ended = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (137, "OOMKilled")
    assert pod["status"]["qosClass"] == "Burstable"


def says(script: str, **more: Any) -> Obj:
    """A container that knows by `SAY` where its last words go."""
    return container("main", script, env=[{"name": "SAY", "value": "/dev/termination-log"}], **more)


async def test_last_words_are_published_with_the_end(api: Api) -> None:
    await run(api, make_job("a", pod={"containers": [says("echo log; echo said > $SAY; exit 3")]}, backoffLimit=0))
    (pod,) = (await api.get(api.pods))["items"]
    ended = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (ended["exitCode"], ended["message"]) == (3, "said\n")


async def test_without_last_words_there_is_no_message_unless_the_log_may_stand_in(api: Api) -> None:
    standing_in: Obj = {"terminationMessagePolicy": "FallbackToLogsOnError"}
    expected = {
        "silent": (says("echo log; exit 3"), None),
        "log": (says("echo log; exit 3", **standing_in), "log\n"),
        "good": (says("echo log", **standing_in), None),
        "long": (says("i=0; while [ $i -lt 200 ]; do echo $i; i=$((i+1)); done; exit 1", **standing_in), "120\n"),
    }
    for name, (main, _) in expected.items():
        await api.create(make_job(name, pod={"containers": [main]}, backoffLimit=0))
    for name, (_, message) in expected.items():
        pod = await api.pod_of(name, is_over)
        said = pod["status"]["containerStatuses"][0]["state"]["terminated"].get("message")
        assert (said[:4] if said else said) == message, name


async def test_a_shared_volume_outlives_restarts_and_is_seen_by_all_containers(api: Api) -> None:
    shared: Obj = {
        "env": [{"name": "STATE", "value": "/state"}],
        "volumeMounts": [{"name": "s", "mountPath": "/state"}],
    }
    first = container("first", "echo one > $STATE/said", **shared)
    again = container("main", "[ -e $STATE/again ] && exec cat $STATE/said; touch $STATE/again; exit 1", **shared)
    pod_spec = {
        "restartPolicy": "OnFailure",
        "initContainers": [first],
        "containers": [again],
        "volumes": [{"name": "s", "emptyDir": {}}],
    }
    await run(api, make_job("a", pod=pod_spec))
    pod = (await api.get(api.pods))["items"][0]
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 1
    _, text, _ = await api.raw("GET", f"{api.pods}/{pod['metadata']['name']}/log", params={"container": "main"})
    assert text == b"one\n"
