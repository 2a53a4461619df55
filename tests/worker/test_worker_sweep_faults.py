"""The sweep while the API server says no: a line, another try, and never a thread that hangs."""

from pathlib import Path

import pytest
import redis

from devcluster import DevCluster, Fault
from tests.api import client, evaluation
from tests.conftest import eventually
from worker import sweep
from worker.settings import WorkerSettings

REFUSALS = {
    "empty": Fault(kind="empty", times=None),
    "401": Fault(kind="status", code=401, times=None),
    "403": Fault(kind="status", code=403, times=None),
    "429": Fault(kind="status", code=429, retry_after=1, times=None),
    "500": Fault(kind="status", code=500, times=None),
    "mute": Fault(kind="stall", times=None, seconds=3),
}


@pytest.mark.must_survive(5)
@pytest.mark.must_survive(6)
@pytest.mark.parametrize("refusal", REFUSALS)
async def test_a_sweep_that_is_refused_says_so_tries_again_and_publishes_what_was_missed(
    valkey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, refusal
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    settings = WorkerSettings(redis_url=valkey.url, key_prefix="swept", sweep_seconds=0.2, namespaces="*")
    sweeping = sweep.of(settings, "me")
    assert sweeping is not None
    sweeping._longest = 2.0
    async with DevCluster(backoff_seconds=0.05) as cluster, client(cluster.url, None, {}, cluster) as api:
        cluster.write_kubeconfig(tmp_path / "kubeconfig")
        await api.create(evaluation("missed"))
        cluster.faults.add(REFUSALS[refusal])
        sweeping.start()
        try:
            await eventually(lambda: len(caplog.messages) >= 2)
            assert {message.partition(",")[0] for message in caplog.messages} <= {"sweep failed", "sweep cancelled"}
            assert not any(record.exc_info for record in caplog.records)
            assert sweeping.unhealthy_reason() is None
            # Only what somebody has to mend makes the worker unready.
            assert (sweeping.refusal() is not None) == (refusal in ("401", "403")), sweeping.refusal()
            cluster.faults.clear()
            with redis.Redis.from_url(valkey.url) as stream:
                await eventually(lambda: "'completed'" in str(stream.xrange("{swept}:events")))
            await eventually(lambda: sweeping.refusal() is None)
        finally:
            sweeping.stop()
