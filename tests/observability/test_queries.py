"""Every query of the dashboard and of the alerts, asked of a real Prometheus that scrapes the running parts."""

import json
import urllib.request
from collections.abc import Iterator

import pytest

from tests.conftest import until
from tests.observability.prometheus import Prometheus, prometheus
from tests.observability.queries import RULES, asked, panels, rules
from tests.observability.running import Running, run_all, running

pytestmark = pytest.mark.prometheus

VARIABLES = {"$__rate_interval": "1m", "$__range": "5m", "$namespace": ".*"}
"""What Grafana puts in their places. The window is as long as anything here may take on a busy machine."""
WRONG = "JobcastDeadLetters"
"""What is wrong here: a handler fails."""
QUIET = {rule["alert"] for rule in rules()} - {WRONG}
"""They find something when something is wrong, and only then."""


def filled(query: str) -> str:
    for name, value in VARIABLES.items():
        query = query.replace(name, value)
    return query


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Prometheus]]:
    """After a few Jobs ran to their ends while it looked on, and an API server that failed once."""
    folder = tmp_path_factory.mktemp("scraped")
    targets: dict[str, list[int]]
    with running(folder, jobs=False) as parts:
        targets = {"jobcast-controller": [parts.controller.port], "jobcast-worker": [parts.worker.port]}
        with prometheus(folder, targets, RULES) as server:
            until(lambda: all(target["health"] == "up" for target in server.targets()) and len(server.targets()) == 2)
            # What is counted before the first scrape is no increase.
            until(lambda: server.ask("jobcast_build_info"))
            for fault in (
                {"kind": "status", "code": 503, "verb": "get", "resource": "jobs"},
                {"kind": "cut", "verb": "watch", "resource": "pods", "now": True},
            ):
                spoil(parts, fault)
            run_all(parts)
            until(lambda: len(server.ask("increase(jobcast_events_total[1m]) > 0")) >= 4)
            yield parts, server


def spoil(parts: Running, fault: dict[str, object]) -> None:
    request = urllib.request.Request(
        f"{parts.cluster_url}/devcluster/faults",
        data=json.dumps(fault).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=5):
        pass


@pytest.mark.parametrize(("where", "query"), asked(), ids=[where for where, _ in asked()])
def test_a_query_is_understood_and_finds_what_is_there(
    scraped: tuple[Running, Prometheus], where: str, query: str
) -> None:
    _, server = scraped
    if where in QUIET:
        until(lambda: not server.ask(filled(query)))
    else:
        until(lambda: server.ask(filled(query)))


def test_the_figures_are_those_of_the_jobs(scraped: tuple[Running, Prometheus]) -> None:
    _, server = scraped
    wanted = {"running": 3, "completed": 1, "failed": 1, "cancelled": 1, "suspended": 0}

    def published() -> dict[str, int]:
        found = server.ask("sum by (status) (jobcast_events_total)")
        return {one["metric"]["status"]: int(one["value"][1]) for one in found}

    until(lambda: published() == wanted)
    assert server.ask("jobcast_dead_letters_total")[0]["value"][1] == "1"
    assert {one["metric"]["namespace"] for one in server.ask("jobcast_watch_last_byte_age_seconds")} == {"default"}
    assert server.ask("jobcast_redis_up == 0") == []


def test_a_quantile_is_a_number(scraped: tuple[Running, Prometheus]) -> None:
    _, server = scraped
    for panel in panels():
        for target in panel["targets"]:
            if "histogram_quantile" in target["expr"]:
                values = [float(one["value"][1]) for one in server.ask(filled(target["expr"]))]
                assert values
                assert all(value >= 0 for value in values), f"{panel['title']}: {values}"


def test_prometheus_evaluates_every_rule_and_what_is_wrong_here_fires(scraped: tuple[Running, Prometheus]) -> None:
    _, server = scraped
    until(lambda: all(rule["health"] == "ok" for rule in server.rules()))
    assert {rule["name"] for rule in server.rules()} == {rule["alert"] for rule in rules()}
    firing = until(lambda: [rule["name"] for rule in server.rules() if rule["state"] == "firing"])
    assert firing == [WRONG]
    assert server.ask(f'ALERTS{{alertname="{WRONG}", alertstate="firing", severity="warning"}}')
