"""What `/metrics` of the worker shows."""

import os
import re
import signal
from pathlib import Path

from workers import Worker, completed, tell, world

from tests.conftest import until
from worker import metrics, pool_metrics

PREFORK = ("-P", "prefork", "-c", "2")
COUNTING = """
import os
from prometheus_client import Counter, Gauge

scored = Counter("team_scored", "Evaluations scored")
busy = Gauge("team_busy", "Whether this process has worked", multiprocess_mode="livesum")

@on("completed")
def score(event):
    scored.inc()
    busy.set(1)
    call(str(os.getpid()), event)
"""


def figure(worker: Worker, name: str) -> float | None:
    found = re.search(rf"^{re.escape(name)} (\S+)$", worker.get("/metrics")[1], re.MULTILINE)
    return float(found[1]) if found else None


def test_what_handlers_count_in_processes_of_the_pool_is_summed_and_survives_them(valkey, tmp_path: Path) -> None:
    with world(valkey.url, "evaluation") as redis, Worker(valkey.url, tmp_path, COUNTING, *PREFORK) as worker:
        tell(valkey.url, "evaluation", *(completed(f"e{number}") for number in range(40)))
        until(lambda: redis.is_done and len(redis.calls) == 40)
        pids = {call.split()[0] for call in redis.calls}
        until(lambda: figure(worker, "team_scored_total") == 40)
        until(lambda: figure(worker, "team_busy") == len(pids))
        for pid in pids:
            os.kill(int(pid), signal.SIGKILL)
        until(lambda: figure(worker, "team_busy") is None or figure(worker, "team_busy") == 0)
        assert figure(worker, "team_scored_total") == 40


def test_the_worker_counts_in_its_parent_and_shows_each_gauge_once(valkey, tmp_path: Path) -> None:
    with world(valkey.url, "evaluation") as redis, Worker(valkey.url, tmp_path, COUNTING, *PREFORK) as worker:
        tell(valkey.url, "evaluation", *(completed(f"e{number}") for number in range(10)))
        until(lambda: redis.is_done and len(redis.calls) == 10)
        until(lambda: figure(worker, 'jobcast_handler_seconds_count{handler="my_handlers.score"}') == 10)
        until(lambda: figure(worker, "jobcast_redis_up") == 1 and figure(worker, "jobcast_broker_up") == 1)
        text = worker.get("/metrics")[1]
        assert "pid=" not in text
        assert "process_resident_memory_bytes" in text


def test_it_leaves_no_files_behind(valkey, tmp_path: Path) -> None:
    places = tmp_path / "tmp"
    places.mkdir()
    with Worker(valkey.url, tmp_path, COUNTING, *PREFORK, TMPDIR=str(places)) as worker:
        until(lambda: worker.get("/readyz")[0] == 200)
        assert list(places.glob("jobcast-metrics-*/*.db"))
    assert not list(places.glob("jobcast-metrics-*"))


def test_a_worker_that_gives_up_what_still_runs_leaves_no_files_behind_either(valkey, tmp_path: Path) -> None:
    places = tmp_path / "tmp"
    places.mkdir()
    waiting = '@on("completed")\ndef score(event):\n    call("begun", event)\n    wait_for("gate")\n'
    with world(valkey.url, "evaluation") as redis:
        worker = Worker(valkey.url, tmp_path, waiting, *PREFORK, TMPDIR=str(places), GRACE_SECONDS="0.5").start()
        tell(valkey.url, "evaluation", completed("a"))
        until(lambda: redis.calls == ["begun a completed"])
        assert list(places.glob("jobcast-metrics-*"))
        assert worker.stop() == 1
    assert not list(places.glob("jobcast-metrics-*"))


def test_without_a_place_for_files_each_process_counts_for_itself(monkeypatch) -> None:
    monkeypatch.delenv(pool_metrics.FOLDER, raising=False)

    def refuse(**_: str) -> str:
        raise OSError("read-only file system")

    monkeypatch.setattr(pool_metrics.tempfile, "mkdtemp", refuse)
    pool_metrics.begin()
    assert pool_metrics.FOLDER not in os.environ
    metrics.redis_up.set(1)
    assert b"jobcast_redis_up" in pool_metrics.exposition()
