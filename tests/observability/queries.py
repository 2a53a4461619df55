"""The queries of the dashboard and of the alert rules, as Prometheus is to be asked them."""

import json
import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
DASHBOARD = ROOT / "k8s" / "components" / "grafana" / "dashboard.json"
RULES = ROOT / "k8s" / "components" / "prometheus" / "rules.yaml"
NAMES = re.compile(r"\b(?:jobcast|process)_[a-z_]+\b|\bup\b")
"""Of metrics, where they stand in an expression."""


def dashboard() -> dict[str, Any]:
    board: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return board


def panels() -> list[dict[str, Any]]:
    """Those that show something."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def asked() -> list[tuple[str, str]]:
    """Where each query stands, and the query."""
    of_panels = [(f"{panel['title']} {one['refId']}", one["expr"]) for panel in panels() for one in panel["targets"]]
    annotations = [(one["name"], one["expr"]) for one in dashboard()["annotations"]["list"] if "expr" in one]
    return [*of_panels, *annotations, *((rule["alert"], rule["expr"]) for rule in rules())]


def metrics_of(query: str) -> set[str]:
    """The metrics that it asks for, by the names of their families."""
    return {re.sub(r"_(bucket|count|sum)$", "", name) for name in NAMES.findall(re.sub(r'"[^"]*"', "", query))}
