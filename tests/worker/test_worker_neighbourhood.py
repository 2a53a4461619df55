"""What a worker notices of who works beside it under the same prefix: it says so, and works on."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from workers import asked, probing, world

from jobcast import __version__
from jobcast.keys import Keys
from jobcast.service.membership import SCRIPT, Member, joining, leaving
from testbed.valkey import ValkeyServer
from tests.conftest import until
from worker import neighbourhood
from worker.http import Probe
from worker.neighbourhood import Neighbourhood
from worker.settings import WorkerSettings

KEY = Keys("near").parts


@pytest.fixture
def probe() -> Iterator[Probe]:
    with probing() as probe:
        yield probe


def beside(valkey: ValkeyServer, probe: Probe, **settings: float) -> Neighbourhood:
    made = Neighbourhood(WorkerSettings(redis_url=valkey.url, key_prefix="near", **settings), "worker@here")
    probe.neighbours = made.neighbours
    made.start()
    return made


def test_a_newer_controller_is_said_everywhere_once_and_makes_it_not_unready(
    valkey: ValkeyServer, probe: Probe, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(neighbourhood, "EVERY_SECONDS", 0.02)
    ours = beside(valkey, probe, sweep_seconds=0)
    newer = Member(kind="controller", name="c", version="99.0.0", namespaces=("evals",), selector="app=evaluation")
    with world(valkey.url, "near") as it:
        until(lambda: "worker worker@here" in asked(probe, "/statusz")[1])
        assert asked(probe, "/readyz")[1] == "ok\n"
        it.client.eval(SCRIPT, 1, KEY, *joining(newer))
        until(
            lambda: asked(probe, "/readyz")[1].startswith(
                f"ok\nwarning: an older worker ({__version__}, worker@here) runs"
            )
        )
        assert "newer controller (99.0.0, c)" in json.loads(asked(probe, "/statusz")[1])["warnings"][0]
        it.client.eval(SCRIPT, 1, KEY, *leaving(newer))
        until(lambda: asked(probe, "/readyz")[1] == "ok\n")
        ours.stop()
        assert not it.client.exists(KEY)
    assert caplog.messages == ["parts do not fit together", "parts fit together again"]


def test_what_a_worker_looks_at_is_known_where_it_finds_the_cluster(
    valkey: ValkeyServer, probe: Probe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {
        "current-context": "x",
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x", "namespace": "evals"}}],
        "clusters": [{"name": "x", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "x", "user": {"token": "t"}}],
    }
    (tmp_path / "kubeconfig").write_text(json.dumps(config))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    ours = beside(valkey, probe)
    until(lambda: "app=evaluation in evals" in asked(probe, "/statusz")[1])
    ours.stop()


def test_what_a_stranger_wrote_there_is_taken_out(valkey: ValkeyServer, probe: Probe) -> None:
    with world(valkey.url, "near") as it:
        it.client.set(KEY, "a stranger's")
        ours = beside(valkey, probe, sweep_seconds=0)
        until(lambda: it.client.type(KEY) == "hash")
        ours.stop()
        it.client.hset(KEY, mapping={"a": "no JSON", "b": '{"seen": 1}'})
        ours = beside(valkey, probe, sweep_seconds=0)
        until(lambda: it.client.hkeys(KEY) == ["worker:worker@here"])
        ours.stop()
