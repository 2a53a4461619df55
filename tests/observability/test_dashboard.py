"""The dashboard, by what Grafana demands of a file that it is to load, and what a person does."""

import re
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.observability.queries import DASHBOARD, asked, dashboard, metrics_of, panels
from tests.observability.running import Running

COLUMNS = 24
"""Of Grafana's grid."""
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
SHOWN = {
    "jobcast_events_total",
    "jobcast_event_latency_seconds",
    "jobcast_watch_last_byte_age_seconds",
    "jobcast_watch_restarts_total",
    "jobcast_jobs",
    "jobcast_queue_depth",
    "jobcast_reconcile_seconds",
    "jobcast_reconcile_errors_total",
    "jobcast_log_bytes_total",
    "jobcast_log_reads_total",
    "jobcast_redis_up",
    "jobcast_ledger_answers_total",
    "jobcast_sweep_seconds",
    "jobcast_sweep_found_total",
    "jobcast_stream_lag",
    "jobcast_dead_letters_total",
    "jobcast_handler_seconds",
    "jobcast_build_info",
}
"""Every metric that is promised."""


def test_it_shows_every_promised_metric() -> None:
    shown = set().union(*(metrics_of(target["expr"]) for panel in panels() for target in panel["targets"]))
    assert shown >= SHOWN


def test_every_metric_that_is_asked_for_exists(parts: Running) -> None:
    there = {"up", "ALERTS"}
    for part in (parts.controller, parts.worker):
        families = text_string_to_metric_families(parts.get(part, "/metrics"))
        there |= {f"{one.name}_total" if one.type == "counter" else one.name for one in families}
    for where, query in asked():
        assert metrics_of(query) <= there, where


def test_it_is_of_the_form_that_grafana_loads() -> None:
    board = dashboard()
    assert board["title"] == "Jobcast"
    assert re.fullmatch(r"[\w-]{1,40}", board["uid"])
    assert board["schemaVersion"] >= 36, "since then a data source is an object"
    assert "id" not in board, "it is the database's"
    assert "__inputs" not in board, "only the form by hand fills those in"
    assert len(DASHBOARD.read_bytes()) < 262_144, "kubectl apply keeps it in an annotation once more"
    numbers = [panel["id"] for panel in board["panels"]]
    assert len(numbers) == len(set(numbers))


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])
def test_a_panel_asks_the_chosen_source_and_says_what_it_shows(panel) -> None:  # type: ignore[no-untyped-def]
    assert panel["title"]
    assert len(panel["description"].split()) >= 4
    assert panel["datasource"] == SOURCE
    assert panel["fieldConfig"]["defaults"]["unit"]
    letters = [target["refId"] for target in panel["targets"]]
    assert letters
    assert len(letters) == len(set(letters))
    for target in panel["targets"]:
        assert target["datasource"] == SOURCE
        assert target["expr"].strip()
        for window in re.findall(r"\[(.+?)\]", target["expr"]):
            assert window in ("$__rate_interval", "$__range"), "a window that fits every zoom"
        for counter in re.findall(r"\b\w+_total\b", target["expr"]):
            assert re.search(rf"(rate|increase)\({counter}", target["expr"]), "a counter alone says nothing"


def test_what_queries_use_of_variables_is_defined() -> None:
    defined = {one["name"]: one for one in dashboard()["templating"]["list"]}
    assert defined["datasource"]["type"] == "datasource"
    assert defined["datasource"]["query"] == "prometheus"
    used = set(re.findall(r"\$\{?(\w+)", " ".join(query for _, query in asked())))
    assert {name for name in used if not name.startswith("__")} <= defined.keys()
    assert defined["namespace"]["allValue"] == ".*", "it has to match where there is no such label"


def test_no_panel_lies_over_another_or_beyond_the_edge() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= COLUMNS
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells


def test_the_config_map_has_the_label_that_grafanas_sidecar_looks_for() -> None:
    (made,) = yaml.safe_load(Path(DASHBOARD).with_name("kustomization.yaml").read_text())["configMapGenerator"]
    assert made["files"] == ["jobcast.json=dashboard.json"]
    assert made["options"]["labels"]["grafana_dashboard"] == "1"
