"""`/metrics` of both parts, as Prometheus reads it: every promised name, with the promised labels and nobody's name in them."""

from collections.abc import Iterable

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from jobcast import __version__
from jobcast.event import Status
from tests.observability.running import EVALUATIONS, Running
from worker.metrics import Lags

CONTROLLER = {
    "jobcast_events_total": {"status"},
    "jobcast_event_latency_seconds": set(),
    "jobcast_watch_last_byte_age_seconds": {"resource", "namespace"},
    "jobcast_watch_restarts_total": {"reason"},
    "jobcast_jobs": {"status"},
    "jobcast_queue_depth": set(),
    "jobcast_reconcile_seconds": set(),
    "jobcast_reconcile_errors_total": {"kind"},
    "jobcast_log_bytes_total": set(),
    "jobcast_log_reads_total": {"state"},
    "jobcast_redis_up": set(),
    "jobcast_ledger_answers_total": {"answer"},
    "jobcast_build_info": {"version"},
}
WORKER = {
    "jobcast_events_total": {"status"},
    "jobcast_sweep_seconds": set(),
    "jobcast_sweep_found_total": set(),
    "jobcast_stream_lag": {"group"},
    "jobcast_dead_letters_total": set(),
    "jobcast_handler_seconds": {"handler"},
    "jobcast_redis_up": set(),
    "jobcast_build_info": {"version"},
}
VALUES = {
    "status": {*Status, "pending", "ended"},
    "resource": {"jobs", "pods"},
    "namespace": {"default"},
    "state": {"complete", "truncated", "unavailable"},
    "answer": {"published", "seen", "duplicate", "stale", "ended"},
    "group": {"worker"},
    "handler": {"life_handlers.score", "life_handlers.explain"},
    "version": {__version__},
}
"""Of each label, all that it may be here."""
SHORTEST_HELP = 6
"""Words that a stranger needs at least."""


def families(text: str) -> dict[str, Metric]:
    """By the names that queries use."""
    found = text_string_to_metric_families(text)
    return {f"{one.name}_total" if one.type == "counter" else one.name: one for one in found}


def ours(text: str) -> Iterable[tuple[str, Metric]]:
    return [(name, family) for name, family in families(text).items() if name.startswith("jobcast_")]


def values(text: str) -> dict[tuple[str, str], float]:
    """By metric and its labels' values."""
    found: dict[tuple[str, str], float] = {}
    for _, family in ours(text):
        found.update({(one.name, " ".join(one.labels.values())): one.value for one in family.samples})
    return found


@pytest.fixture(params=["controller", "worker"])
def page(request: pytest.FixtureRequest, parts: Running) -> tuple[str, dict[str, set[str]]]:
    """The text, and what is promised of it."""
    part = parts.controller if request.param == "controller" else parts.worker
    return parts.get(part, "/metrics"), CONTROLLER if request.param == "controller" else WORKER


def test_every_promised_metric_is_there_with_its_labels(page: tuple[str, dict[str, set[str]]]) -> None:
    text, promised = page
    found = families(text)
    assert promised.keys() <= found.keys(), f"missing: {promised.keys() - found.keys()}"
    for name, labels in promised.items():
        for one in found[name].samples:
            assert set(one.labels) - {"le"} == labels, one


def test_no_label_has_more_values_than_can_be_foreseen(page: tuple[str, dict[str, set[str]]]) -> None:
    text, _ = page
    for _, family in ours(text):
        for one in family.samples:
            for label, value in one.labels.items():
                assert label not in VALUES or value in VALUES[label], one
    for evaluation in EVALUATIONS:
        assert evaluation.name not in text
    assert "pid=" not in text, "the processes of the pool are one worker"


def test_the_help_of_a_metric_says_what_it_is(page: tuple[str, dict[str, set[str]]]) -> None:
    text, _ = page
    for name, family in ours(text):
        assert len(family.documentation.split()) >= SHORTEST_HELP, name
        assert family.type != "unknown", name


def test_the_numbers_are_those_of_the_jobs_that_ran(parts: Running) -> None:
    seen = values(parts.get(parts.controller, "/metrics"))
    published = {status: seen["jobcast_events_total", status] for status in Status}
    assert published == {"running": 3, "suspended": 0, "completed": 1, "failed": 1, "cancelled": 1}
    assert seen["jobcast_event_latency_seconds_count", ""] == seen["jobcast_ledger_answers_total", "published"] == 6
    assert seen["jobcast_log_reads_total", "complete"] >= 3, "of one attempt, of two, and of what was deleted"
    assert seen["jobcast_log_bytes_total", ""] == len("42\n" + "no\n" * 2)
    assert seen["jobcast_redis_up", ""] == seen["jobcast_build_info", __version__] == 1
    seen = values(parts.get(parts.worker, "/metrics"))
    assert seen["jobcast_dead_letters_total", ""] == 1
    assert seen["jobcast_stream_lag", "worker"] == seen["jobcast_sweep_found_total", ""] == 0
    assert seen["jobcast_sweep_seconds_count", ""] > 0
    assert seen["jobcast_redis_up", ""] == seen["jobcast_build_info", __version__] == 1
    assert all(seen["jobcast_events_total", status] == 0 for status in Status), "the controller published everything"


def test_a_consumer_group_that_is_gone_has_no_lag() -> None:
    lags = Lags()
    lags.set({"worker": 1, "left": 3})
    lags.set({"worker": 2})
    (family,) = lags.collect()
    assert [(one.labels, one.value) for one in family.samples] == [({"group": "worker"}, 2)]
