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
        "At `/metrics` of the controller (port `HTTP_PORT`, 8080) and of each worker (`WORKER_HTTP_PORT`, 8081), in Prometheus'",
        "format. No label ever names a Job or an evaluation, so there are only few series. Python's own `process_…` are there too.",
        "What handlers count with `prometheus_client` is in the worker's. Generated from the code by `make docs`.",
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
    """A metric of the library's knows them itself; of a collector of ours, what it collects."""
    return tuple(getattr(metric, "_labelnames", ()) or getattr(family, "_labelnames", ()))
