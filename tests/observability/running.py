"""Controller and worker as the processes that operators run, on devcluster and a real Valkey, and Jobs with different ends."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.jobs import Cluster, Evaluation
from jobcast.client import Client
from testbed.pages import page
from testbed.valkey import valkey
from tests.conftest import until
from tests.fates.stage import devcluster
from tests.parts import Part, Parts

HANDLERS = """
from jobcast import on

@on("completed")
def score(event):
    pass

@on("failed", max_retries=0)
def explain(event):
    raise ValueError("no idea")
"""
EVALUATIONS = (
    Evaluation("life-succeeds", "echo 42", "exits 0", "completed"),
    Evaluation("life-fails-twice", "echo no; exit 3", "fails, is tried again, fails", "failed", {"backoffLimit": 1}),
    Evaluation("life-is-deleted", "sleep 600", "is deleted while it runs", "cancelled"),
)
PUBLISHED = {
    "life-succeeds": ["running", "completed"],
    "life-fails-twice": ["running", "failed"],
    "life-is-deleted": ["running", "cancelled"],
}


@dataclass
class Running:
    """The parts, and what they say of themselves."""

    controller: Part
    worker: Part
    redis_url: str
    cluster_url: str

    @staticmethod
    def get(part: Part, path: str) -> str:
        status, text = page(part.port, path)
        assert status == 200, f"{path}: {status} {text}"
        return text

    def status(self, part: Part) -> dict[str, Any]:
        said: dict[str, Any] = json.loads(self.get(part, "/statusz"))
        return said

    @staticmethod
    def records(part: Part) -> list[dict[str, Any]]:
        """All that it has written on stdout and stderr. Fails on a line that is no JSON."""
        whole = part.log.read_text().split("\n")[:-1]  # what is being written just now is not
        return [json.loads(line) for line in whole]


@contextmanager
def running(folder: Path, *, jobs: bool = True, **settings: str) -> Iterator[Running]:
    """Both parts, ready; with `jobs`, after the EVALUATIONS have ended and were handled."""
    (folder / "life_handlers.py").write_text(HANDLERS)
    with valkey() as redis, devcluster(folder) as kubeconfig:
        parts = Parts(
            {
                "REDIS_URL": redis.url,
                "NAMESPACES": "default",
                "KUBECONFIG": str(kubeconfig),
                "LOG_FORMAT": "json",
                "HANDLERS": "life_handlers",
                "PYTHONPATH": f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
                "SWEEP_SECONDS": "0.5",
                "TAKEOVER_SECONDS": "1.5",  # six times in it the lag is looked at
                "PYTHONWARNINGS": "ignore",  # that root should not run it
                **settings,
            },
            folder,
        )
        try:
            controller = parts.start_controller()
            worker = parts.start_worker("--pool", "prefork", "--concurrency", "2")
            controller.wait()
            worker.wait()
            made = Running(controller, worker, redis.url, _server(kubeconfig))
            if jobs:
                run_all(made)
            yield made
        finally:
            parts.stop()


def run_all(made: Running) -> None:
    """Drive the EVALUATIONS to their ends, and wait until the worker has seen to them."""
    cluster = Cluster(made.cluster_url)
    with Client(made.redis_url) as jobcast, jobcast.follow("0") as feed:
        for evaluation in EVALUATIONS:
            cluster.create(evaluation, {})
        ends: dict[str, str] = {}
        for event in feed:
            if event.eval_id == "life-is-deleted" and event.status == "running":
                cluster.delete("life-is-deleted")
            if event.status.is_terminal:
                ends[event.eval_id] = event.status
            if len(ends) == len(EVALUATIONS):
                break
    assert ends == {evaluation.name: evaluation.expected for evaluation in EVALUATIONS}
    handled = 'jobcast_handler_seconds_count{handler="life_handlers.score"} 1.0'
    for line in ("jobcast_dead_letters_total 1.0", handled, 'jobcast_stream_lag{group="worker"} 0.0'):
        until(lambda line=line: line in made.get(made.worker, "/metrics"))  # type: ignore[misc]
    until(lambda: made.status(made.controller)["jobs"]["open"] == 0)


def _server(kubeconfig: Path) -> str:
    config = json.loads(kubeconfig.read_text())
    server: str = config["clusters"][0]["cluster"]["server"]
    return server
