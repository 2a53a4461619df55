"""The worker's metrics, all counted in the parent process. Bounded label sets: handlers and groups, never an evaluation."""

from collections.abc import Iterable, Mapping
from functools import cache

from prometheus_client import REGISTRY, Counter, Gauge, Histogram, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from jobcast import __version__
from jobcast.event import Status

events = Counter("jobcast_events", "Events that this process told, by the status that they tell", ["status"])
dead_groups = Gauge(
    "jobcast_dead_groups",
    "Consumer groups that are behind and that nobody has read for within a day; the stream is trimmed without them",
    multiprocess_mode="mostrecent",
)
dead_letters = Counter(
    "jobcast_dead_letters", "Events that were given up on, for one handler or route, and kept for a person to look at"
)
handled = Histogram(
    "jobcast_handler_seconds",
    "Seconds from the start of a handler's task to its end, whatever the end was",
    ["handler"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800),
)
sweep_seconds = Histogram(
    "jobcast_sweep_seconds",
    "Seconds that a round of the sweep took, which compares all Jobs with what was told of them",
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300),
)
sweep_found = Counter(
    "jobcast_sweep_found", "Events that the sweep had to tell, because no controller had told them; they came late"
)
redis_up = Gauge(
    "jobcast_redis_up", "1 if Redis took the last command, 0 while it does not", multiprocess_mode="mostrecent"
)
broker_up = Gauge(
    "jobcast_broker_up",
    "1 if Celery's broker took the last command, 0 while it does not",
    multiprocess_mode="mostrecent",
)
route_broker_up = Gauge(
    "jobcast_route_broker_up",
    "1 if the broker of routes took the last message, or was sent none yet; 0 while it does not",
    ["broker"],
    multiprocess_mode="mostrecent",
)
task_restarts = Counter(
    "jobcast_task_restarts", "Parts of the process that ended unexpectedly and were started again", ["task"]
)
build_info = Gauge(
    "jobcast_build_info", "Always 1; the version that runs is a label", ["version"], multiprocess_mode="mostrecent"
)
build_info.labels(__version__).set(1)


class Lags(Collector):
    """`jobcast_stream_lag`. Apart from the others, because a group that is gone has to go here too, which a gauge that is
    shared among processes cannot do."""

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
            "Events that a consumer group of the stream has not acknowledged: unread ones, and those being worked on",
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


def handler_is_there(handler: str) -> None:
    """Show it before its first task has ended, which no rate would see otherwise."""
    _of(handler)


def handler_seconds(handler: str, seconds: float) -> None:
    _of(handler).observe(seconds)


@cache
def _of(handler: str) -> Histogram:
    return handled.labels(handler)


def task_restarted(task: str) -> None:
    task_restarts.labels(task).inc()
