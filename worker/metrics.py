"""The worker's metrics, all counted in the parent process. Bounded label sets: handlers and groups, never an evaluation."""

from functools import cache

from prometheus_client import Counter, Gauge, Histogram

from jobcast import __version__

stream_lag = Gauge(
    "jobcast_stream_lag", "Entries that a group has not acknowledged", ["group"], multiprocess_mode="mostrecent"
)
dead_groups = Gauge(
    "jobcast_dead_groups", "Consumer groups that are behind and that nobody reads for", multiprocess_mode="mostrecent"
)
dead_letters = Counter("jobcast_dead_letters", "Events given up on")
handled = Histogram(
    "jobcast_handler_seconds",
    "From the start of a handler's task to its end",
    ["handler"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800),
)
sweep_seconds = Histogram(
    "jobcast_sweep_seconds",
    "Duration of a round of the sweep",
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300),
)
sweep_found = Counter("jobcast_sweep_found", "Events that the fast path had missed")
redis_up = Gauge("jobcast_redis_up", "Whether Redis took the last command", multiprocess_mode="mostrecent")
broker_up = Gauge("jobcast_broker_up", "Whether the broker took the last command", multiprocess_mode="mostrecent")
route_broker_up = Gauge(
    "jobcast_route_broker_up",
    "Whether the broker of routes took the last message; 1 before the first",
    ["broker"],
    multiprocess_mode="mostrecent",
)
task_restarts = Counter("jobcast_task_restarts", "Threads that failed and were started again", ["task"])
build_info = Gauge(
    "jobcast_build_info", "Always 1; the version is a label", ["version"], multiprocess_mode="mostrecent"
)


def handler_seconds(handler: str, seconds: float) -> None:
    _of(handler).observe(seconds)


@cache
def _of(handler: str) -> Histogram:
    return handled.labels(handler)


build_info.labels(__version__).set(1)
