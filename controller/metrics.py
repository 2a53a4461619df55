"""Every metric of the controller. Labels are bounded: never the name of an evaluation or of a Job."""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)

from jobcast import __version__
from jobcast.event import Log, Status
from jobcast.ledger.ledger import Answer

disable_created_metrics()  # type: ignore[no-untyped-call] # a second, unused series for each counter
registry = CollectorRegistry()
"""Our own, not the library's global one: some metrics of the worker have the same names."""
ProcessCollector(registry=registry)

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
"""From one round trip to Redis to more than the longest wait for a log."""


def _counter(name: str, text: str, *labels: str) -> Counter:
    return Counter(name, text, labels, registry=registry)


def _gauge(name: str, text: str, *labels: str) -> Gauge:
    return Gauge(name, text, labels, registry=registry)


def _histogram(name: str, text: str) -> Histogram:
    return Histogram(name, text, buckets=SECONDS, registry=registry)


events = _counter("jobcast_events_total", "Events that this process published, by their status.", "status")
latency = _histogram(
    "jobcast_event_latency_seconds",
    "Seconds from seeing a change of a Job to publishing it, including the wait for the log.",
)
watch_age = _gauge(
    "jobcast_watch_last_byte_age_seconds",
    "Seconds since the API server last sent anything on this watch. An idle watch gets a bookmark about every minute.",
    "resource",
    "namespace",
)
watch_restarts = _counter(
    "jobcast_watch_restarts_total",
    "Watches that were opened again, by reason. API servers end each watch every few minutes (reason ended).",
    "reason",
)
skipped = _counter(
    "jobcast_watch_skipped_total",
    "Lines and objects of lists and watches that could not be decoded and were skipped.",
    "reason",
)
unnamed = _counter(
    "jobcast_jobs_without_eval_id_total", "Jobs without an evaluation id; they are published under their own name."
)
warnings = _counter("jobcast_job_warnings_total", "Jobs with an invalid annotation, which was ignored.")
jobs = _gauge("jobcast_jobs", "Jobs in the cluster that match the selector, by status.", "status")
queue_depth = _gauge("jobcast_queue_depth", "Jobs that are waiting to be reconciled.")
reconcile = _histogram("jobcast_reconcile_seconds", "Seconds for one reconcile of a Job.")
errors = _counter("jobcast_reconcile_errors_total", "Reconciles that failed and are retried, by kind of error.", "kind")
log_bytes = _counter("jobcast_log_bytes_total", "Bytes of container logs that were read.")
log_reads = _counter("jobcast_log_reads_total", "Finished reads of container logs, by how complete they are.", "state")
redis_up = _gauge("jobcast_redis_up", "1 if Redis executed the last command, 0 otherwise.")
dead_groups = _gauge(
    "jobcast_dead_groups",
    "Consumer groups that are behind and had no reader for a day. The stream is trimmed without them.",
)
answers = _counter(
    "jobcast_ledger_answers_total",
    "Answers of Redis to attempts to publish. Only the answer `published` is a new event.",
    "answer",
)
finalizers_held = _gauge("jobcast_finalizers_held", "Jobs that have the finalizer of Jobcast.")
finalizers_released_unpublished = _counter(
    "jobcast_finalizers_released_unpublished_total",
    "Jobs whose finalizer was removed after FINALIZER_MAX_SECONDS, before their end was published.",
)
task_restarts = _counter(
    "jobcast_task_restarts_total", "Tasks of this process that ended unexpectedly and were started again.", "task"
)
_gauge("jobcast_build_info", "Always 1. The label has the version.", "version").labels(__version__).set(1)

# A lookup of a child takes longer than counting, so the ones that are counted for every Job are looked up once. It also shows
# each as 0 before the first 1, which a rate needs.
events_by_status = {status: events.labels(status.value) for status in Status}
answers_by_answer = {answer: answers.labels(answer.value) for answer in Answer}
_reads_by_state = {state: log_reads.labels(state) for state in ("complete", "truncated", "unavailable")}


def log_was_read(read: Log) -> None:
    _reads_by_state[read.state].inc()
    log_bytes.inc(read.bytes)
