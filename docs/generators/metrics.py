"""The page of metrics, from those that controller and worker register."""

from types import ModuleType

from prometheus_client import Metric
from prometheus_client.metrics import MetricWrapperBase

from controller import metrics as controller
from generators.tables import cell
from worker import metrics as worker


def page() -> str:
    lines = [
        "# Metrics",
        "",
        "Controllers serve `/metrics` on port 8080 (`HTTP_PORT`), workers on 8081 (`WORKER_HTTP_PORT`), in Prometheus' format. No label",
        "contains the name of a Job or an evaluation, so the number of series stays small. The pages also have Python's `process_…`",
        "metrics, and the worker's has what handlers count with `prometheus_client`. `make docs` generates this page from the code.",
    ]
    for title, module in (("Controller", controller), ("Worker", worker)):
        lines += ["", f"## {title}", "", "| name | type | labels | what |", "| --- | --- | --- | --- |", *_rows(module)]
    return "\n".join(lines) + "\n"


def _rows(module: ModuleType) -> list[str]:
    metrics = [one for one in vars(module).values() if isinstance(one, MetricWrapperBase | worker.Lags)]
    return [_row(one) for one in metrics if not getattr(one, "_labelvalues", ())]  # else the child of one of them


def _row(metric: MetricWrapperBase | worker.Lags) -> str:
    (family,) = metric.describe()
    name = family.name + ("_total" if family.type == "counter" else "")
    labels = ", ".join(f"`{label}`" for label in _labels(metric, family))
    return f"| `{name}` | {family.type} | {labels} | {cell(family.documentation)} |"


def _labels(metric: MetricWrapperBase | worker.Lags, family: Metric) -> tuple[str, ...]:
    """The library's metrics have them as an attribute; our own collectors only in what they collect."""
    return tuple(getattr(metric, "_labelnames", ()) or getattr(family, "_labelnames", ()))
