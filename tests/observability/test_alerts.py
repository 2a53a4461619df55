"""The alert rules: what each has to have, that the operator's object is made of them, and that each fires when it should."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.observability.queries import ROOT, RULES, rules

COMPONENT = RULES.parent
TESTS = Path(__file__).with_name("alerts")
ALERTS = {
    "JobcastControllerDown",
    "JobcastWorkerDown",
    "JobcastRedisDown",
    "JobcastWatchSilent",
    "JobcastLagGrowing",
    "JobcastDeadLetters",
    "JobcastSweepFindsMuch",
}


def anchors(page: Path) -> set[str]:
    """As Markdown's headings are linked to."""
    headings = re.findall(r"^## (.+)$", page.read_text(), re.MULTILINE)
    return {heading.lower().replace(" ", "-") for heading in headings}


def test_the_promised_alerts_are_there() -> None:
    assert {rule["alert"] for rule in rules()} == ALERTS


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_says_how_grave_it_is_what_it_means_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("critical", "warning")
    said = rule["annotations"]
    assert said["summary"][0].isupper()
    assert len(said["description"].split()) > 20
    page, _, anchor = said["runbook"].partition("#")
    assert anchor == rule["alert"].lower()
    assert anchor in anchors(ROOT / page)


def test_each_section_of_the_runbook_says_what_it_means_where_to_look_and_what_to_do() -> None:
    page = (ROOT / "docs" / "operations" / "alerts.md").read_text()
    sections = {part.split("\n", 1)[0]: part for part in page.split("\n## ")[1:]}
    assert sections.keys() == ALERTS
    for name, text in sections.items():
        assert all(f"\n**{word}" in text for word in ("Means.", "Look at", "Do")), name


def test_the_operators_object_has_exactly_the_rules() -> None:
    rule = yaml.safe_load((COMPONENT / "prometheusrule.yaml").read_text())
    assert (rule["apiVersion"], rule["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    assert rule["spec"] == yaml.safe_load(RULES.read_text())


def test_the_rules_ask_for_the_scrape_jobs_that_the_pod_monitor_makes() -> None:
    (endpoint,) = yaml.safe_load((COMPONENT / "podmonitor.yaml").read_text())["spec"]["podMetricsEndpoints"]
    (relabel,) = endpoint["relabelings"]
    assert (relabel["targetLabel"], relabel["replacement"]) == ("job", "jobcast-$1")
    assert endpoint["honorLabels"], "the rule of the watches asks for the namespace that is watched"
    asked = set(re.findall(r'job="([^"]+)"', RULES.read_text()))
    assert asked == {"jobcast-controller", "jobcast-worker"}


def test_every_alert_is_tried_where_it_fires_and_where_it_does_not() -> None:
    fires, does_not = set(), set()
    for path in TESTS.glob("*.yaml"):
        for scene in yaml.safe_load(path.read_text())["tests"]:
            for expected in scene["alert_rule_test"]:
                (fires if expected.get("exp_alerts") else does_not).add(expected["alertname"])
    assert fires == does_not == ALERTS


@pytest.mark.prometheus
@pytest.mark.parametrize("path", sorted(TESTS.glob("*.yaml")), ids=lambda path: path.stem)
def test_alerts_fire_when_they_should_and_only_then(path: Path) -> None:
    ended = subprocess.run(["promtool", "test", "rules", str(path)], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.prometheus
def test_prometheus_takes_the_rules() -> None:
    ended = subprocess.run(["promtool", "check", "rules", str(RULES)], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert f"{len(ALERTS)} rules found" in ended.stdout
