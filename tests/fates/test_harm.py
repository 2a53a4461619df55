"""What is done to a running container from outside: memory, signals, evictions, lost nodes."""

import pytest

from tests.api import Obj, is_running, on_ghost_node, running_by_hand
from tests.fates.fate import Fate

BACKOFF = "BackoffLimitExceeded"


async def test_uses_too_much_memory(fate: Fate) -> None:
    greedy: Obj = {"resources": {"limits": {"memory": "16Mi"}}}
    job = await fate.run("echo hungry; tail /dev/zero", main=greedy)
    end = await fate.ends(job, "running", f"failed 137 {BACKOFF}")
    assert [(attempt["exit_code"], attempt["reason"]) for attempt in end["attempts"]] == [(137, "OOMKilled")]
    await fate.is_log(end["log"], end["output"].encode())
    assert end["output"].startswith("hungry\n")


@pytest.mark.parametrize(("signal", "code"), [("KILL", 137), ("SEGV", 139), ("TERM", 143)])
async def test_is_killed_by_a_signal(fate: Fate, signal: str, code: int) -> None:
    # The first process of a container of its own is deaf to its own signals; with a shared namespace it is not the first.
    # Kubernetes makes one dollar of two.
    job = await fate.run(f"echo dying; kill -{signal} $$$$; sleep 5", pod={"shareProcessNamespace": True})
    end = await fate.ends(job, "running", f"failed {code} {BACKOFF}")
    assert [(attempt["exit_code"], attempt["reason"]) for attempt in end["attempts"]] == [(code, "Error")]
    await fate.is_log(end["log"], b"dying\n")


async def test_has_a_command_that_is_not_there(fate: Fate) -> None:
    job = await fate.run(main={"command": ["/no/such/command"]})
    end = await fate.ends(job, f"failed 128 {BACKOFF}")
    (attempt,) = end["attempts"]
    assert attempt["reason"] == "StartError"
    assert "/no/such/command" in attempt["message"]


@pytest.mark.must_survive(19)
async def test_is_evicted_by_a_drain(fate: Fate) -> None:
    job = await fate.run("trap 'echo bye; exit 9' TERM; echo hi; sleep 300 & wait")
    await fate.until(job, "running")
    await fate.api.evict((await fate.api.pod_of(job.name, is_running))["metadata"]["name"])
    end = await fate.ends(job, "running", f"failed 9 {BACKOFF}")
    assert [(attempt["exit_code"], attempt["reason"]) for attempt in end["attempts"]] == [(9, "EvictionByEvictionAPI")]
    await fate.is_log(end["log"], b"hi\nbye\n")


@pytest.mark.must_survive(19)
async def test_is_evicted_by_its_node(fate: Fate) -> None:
    """By hand: what a kubelet writes that runs out of memory or disk."""
    async with on_ghost_node(fate.api) as node:
        job = await fate.run(pod={"nodeName": node.name})
        pod = (await fate.api.pod_of(job.name))["metadata"]["name"]
        await fate.api.patch(f"{fate.api.pods}/{pod}/status", running_by_hand("main"))
        await fate.until(job, "running")
        evicted = {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."}
        await fate.api.patch(f"{fate.api.pods}/{pod}/status", {"status": evicted})
        end = await fate.ends(job, "running", f"failed - {BACKOFF}")
    (attempt,) = end["attempts"]
    assert (attempt["exit_code"], attempt["reason"], attempt["message"]) == (None, "Evicted", evicted["message"])
    assert end["log"]["state"] == "unavailable"


@pytest.mark.must_survive(19)
async def test_loses_its_node(fate: Fate) -> None:
    async with on_ghost_node(fate.api) as node:
        job = await fate.run(pod={"nodeName": node.name})
        pod = (await fate.api.pod_of(job.name))["metadata"]["name"]
        await fate.api.patch(f"{fate.api.pods}/{pod}/status", running_by_hand("main"))
        await fate.until(job, "running")
        await node.delete()
        end = await fate.ends(job, "running", f"failed - {BACKOFF}", seconds=150)
    assert [(attempt["exit_code"], attempt["reason"]) for attempt in end["attempts"]] == [(None, "DeletionByPodGC")]
    assert (end["log"]["state"], end["log"]["reason"]) == ("unavailable", "pod-gone")
