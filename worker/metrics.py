"""The worker's metrics, all counted in the parent process. Bounded label sets: handlers and groups, never an evaluation."""

from collections.abc import Iterable, Mapping
from functools import cache

from prometheus_client import REGISTRY, Counter, Gauge, Histogram, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from jobcast import __version__
from jobcast.event import Status

events = Counter("jobcast_events", "Events published by this process, by status", ["status"])
dead_groups = Gauge(
    "jobcast_dead_groups",
    "Consumer groups that are behind and have not read for a day; the stream is trimmed without them",
    multiprocess_mode="mostrecent",
)
dead_letters = Counter(
    "jobcast_dead_letters", "Events that a handler or route failed to handle for good, kept as dead letters"
)
handled = Histogram(
    "jobcast_handler_seconds",
    "Duration of a handler's task, whether it succeeded or not, in seconds",
    ["handler"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800),
)
oldest_run = Gauge(
    "jobcast_oldest_run_seconds",
    "How long the oldest handler that runs in this worker has been running, in seconds; 0 when none runs",
    multiprocess_mode="mostrecent",
)
sweep_seconds = Histogram(
    "jobcast_sweep_seconds",
    "Duration of a sweep, which compares all Jobs with what was published, in seconds",
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300),
)
sweep_found = Counter(
    "jobcast_sweep_found", "Events published by the sweep, because no controller had published them; they were late"
)
redis_up = Gauge(
    "jobcast_redis_up", "1 if Redis accepted the last command, 0 if it did not", multiprocess_mode="mostrecent"
)
broker_up = Gauge(
    "jobcast_broker_up",
    "1 if Celery's broker accepted the last command, 0 if it did not",
    multiprocess_mode="mostrecent",
)
route_broker_up = Gauge(
    "jobcast_route_broker_up",
    "1 if the broker of routes accepted the last message, or was sent none yet; 0 if it did not",
    ["broker"],
    multiprocess_mode="mostrecent",
)
task_restarts = Counter(
    "jobcast_task_restarts", "Tasks and threads of the process that failed and were restarted", ["task"]
)
build_info = Gauge(
    "jobcast_build_info", "Always 1; the running version is a label", ["version"], multiprocess_mode="mostrecent"
)
build_info.labels(__version__).set(1)


class Lags(Collector):
    """`jobcast_stream_lag`. A collector, because a group that is gone has to go here too, which a gauge that processes share
    cannot do."""

    def __init__(self) -> None:
        self._of: Mapping[str, int] = {}

    def set(self, lags: Mapping[str, int]) -> None:
        """Of all groups that there are."""
        self._of = dict(lags)

    @property
    def now(self) -> dict[str, int]:
        return dict(self._of)

    def collect(self) -> Iterable[Metric]:
        family = GaugeMetricFamily(
            "jobcast_stream_lag",
            "Events that a consumer group has not acknowledged: unread and pending ones",
            labels=["group"],
        )
        for group, lag in self._of.items():
            family.add_metric([group], lag)
        return [family]

    def describe(self) -> Iterable[Metric]:
        return self.collect()


stream_lag = Lags()
REGISTRY.register(stream_lag)

# A rate needs to see the 0 before the first 1.
events_by_status = {status: events.labels(status.value) for status in Status}


@cache
def handler_seconds(handler: str) -> Histogram:
    """Call it once before its first task has ended, so that a rate sees that too."""
    return handled.labels(handler)


def task_restarted(task: str) -> None:
    task_restarts.labels(task).inc()
