"""The PrometheusRule for the Prometheus Operator, made from rules.yaml, which Prometheus itself can read."""

from pathlib import Path

RULES = Path(__file__).resolve().parents[2] / "k8s" / "components" / "prometheus" / "rules.yaml"
HEAD = """\
# Generated from rules.yaml by `make docs`.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: jobcast
  labels: {app.kubernetes.io/name: jobcast}
spec:
"""


def rule() -> str:
    said = (line for line in RULES.read_text().splitlines(keepends=True) if not line.startswith("#"))
    return HEAD + "".join(f"  {line}" if line.strip() else line for line in said)
