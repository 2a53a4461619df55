"""The sweep and the stream's consumer do not wait for each other: neither stops when the other stands still."""

import os
import signal
import socket
from pathlib import Path

import pytest
import redis
from workers import Worker, completed, tell, world

from benchmarks.watch import kubeconfig
from devcluster import DevCluster
from tests.api import client, evaluation
from tests.conftest import eventually, until


@pytest.mark.must_survive(29)
async def test_a_celery_consumer_that_hangs_on_its_broker_does_not_stop_the_sweep(
    valkey, own_valkey, tmp_path: Path
) -> None:
    async with DevCluster(backoff_seconds=0.05) as cluster, client(cluster.url, None, {}, cluster) as api:
        cluster.write_kubeconfig(tmp_path / "kubeconfig")
        env = {"KUBECONFIG": str(tmp_path / "kubeconfig"), "NAMESPACES": api.namespace, "KEY_PREFIX": "apart"}
        with (
            redis.Redis.from_url(valkey.url) as stream,
            Worker(valkey.url, tmp_path, CELERY_BROKER_URL=own_valkey.url, SWEEP_SECONDS="1", **env) as worker,
        ):
            await eventually(lambda: worker.get("/readyz")[0] == 200, 60)
            os.kill(own_valkey.process.pid, signal.SIGSTOP)
            try:
                await api.create(evaluation("missed"))
                await eventually(lambda: "'completed'" in str(stream.xrange("{apart}:events")), 60)
            finally:
                os.kill(own_valkey.process.pid, signal.SIGCONT)


@pytest.mark.must_survive(29)
def test_a_sweep_that_hangs_on_the_api_server_does_not_stop_the_consumer(valkey, tmp_path: Path) -> None:
    handler = '@on("completed")\ndef score(event):\n    call("score", event)\n'
    with socket.create_server(("127.0.0.1", 0)) as mute:
        mute.settimeout(60)
        config = kubeconfig(tmp_path, f"http://127.0.0.1:{mute.getsockname()[1]}")
        with (
            world(valkey.url, "evaluation") as calls,
            Worker(valkey.url, tmp_path, handler, KUBECONFIG=config, SWEEP_SECONDS="1") as worker,
        ):
            asked, _ = mute.accept()  # and never answers
            with asked:
                tell(valkey.url, "evaluation", completed("a"), completed("b"))
                until(lambda: sorted(calls.calls) == ["score a completed", "score b completed"])
                assert worker.get("/livez")[0] == 200
                assert "sweep failed" not in worker.log, "it still hangs"
