"""Every metric of the controller, with bounded labels: never an evaluation's or a Job's name. Children are bound once."""

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

disable_created_metrics()  # type: ignore[no-untyped-call] # a second series for each counter, that nobody asks for
registry = CollectorRegistry()
"""Our own, not the library's global one: the worker's metrics have some of the same names."""
ProcessCollector(registry=registry)

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
"""From one round trip to Redis to the longest wait for a log, and past it."""

events = Counter(
    "jobcast_events_total",
    "Events that this process published, by the status that they publish",
    ["status"],
    registry=registry,
)
latency = Histogram(
    "jobcast_event_latency_seconds",
    "Seconds from a change of a Job being seen to Redis having taken what is published about it; waiting for the log is in it",
    buckets=SECONDS,
    registry=registry,
)
watch_age = Gauge(
    "jobcast_watch_last_byte_age_seconds",
    "Seconds since the API server sent anything on this watch; one that is idle gets a bookmark about every minute",
    ["resource", "namespace"],
    registry=registry,
)
watch_restarts = Counter(
    "jobcast_watch_restarts_total",
    "Watches that ended and were opened again; API servers end each every few minutes (reason ended)",
    ["reason"],
    registry=registry,
)
skipped = Counter(
    "jobcast_watch_skipped_total",
    "Lines and objects of lists and watches that could not be read and were passed over",
    ["reason"],
    registry=registry,
)
unnamed = Counter(
    "jobcast_jobs_without_eval_id_total",
    "Jobs seen that have no evaluation id, and are published under their own name",
    registry=registry,
)
warnings = Counter(
    "jobcast_job_warnings_total", "Jobs with an annotation that makes no sense and was ignored", registry=registry
)
jobs = Gauge("jobcast_jobs", "Jobs that the API server shows now, by where they stand", ["status"], registry=registry)
queue_depth = Gauge(
    "jobcast_queue_depth", "Jobs that something happened to and whose turn has not come yet", registry=registry
)
reconcile = Histogram(
    "jobcast_reconcile_seconds",
    "Seconds for looking at one Job and one what is new of it",
    buckets=SECONDS,
    registry=registry,
)
errors = Counter(
    "jobcast_reconcile_errors_total",
    "Looks at a Job that failed and are tried again, by what went wrong",
    ["kind"],
    registry=registry,
)
log_bytes = Counter("jobcast_log_bytes_total", "Bytes of containers' logs that were read", registry=registry)
log_reads = Counter(
    "jobcast_log_reads_total", "Reads of containers' logs that ended, by how much was got", ["state"], registry=registry
)
redis_up = Gauge("jobcast_redis_up", "1 if Redis took the last command, 0 while it does not", registry=registry)
dead_groups = Gauge(
    "jobcast_dead_groups",
    "Consumer groups that are behind and that nobody has read for within a day; the stream is trimmed without them",
    registry=registry,
)
answers = Counter(
    "jobcast_ledger_answers_total",
    "What Redis answered when it was asked to publish something of a Job; only published is a new event",
    ["answer"],
    registry=registry,
)
finalizers_held = Gauge(
    "jobcast_finalizers_held", "Jobs that our finalizer keeps from being removed", registry=registry
)
finalizers_released_unpublished = Counter(
    "jobcast_finalizers_released_unpublished_total",
    "Jobs let go after FINALIZER_MAX_SECONDS, before their end was published",
    registry=registry,
)
task_restarts = Counter(
    "jobcast_task_restarts_total",
    "Parts of the process that ended unexpectedly and were started again",
    ["task"],
    registry=registry,
)
Gauge("jobcast_build_info", "Always 1; the version that runs is a label", ["version"], registry=registry).labels(
    __version__
).set(1)

# Looking a child up costs more than counting: those that are counted for every Job are looked up once. And a rate needs
# to see the 0 before the first 1.
events_by_status = {status: events.labels(status.value) for status in Status}
answers_by_answer = {answer: answers.labels(answer.value) for answer in Answer}
_reads_by_state = {state: log_reads.labels(state) for state in ("complete", "truncated", "unavailable")}


def log_was_read(read: Log) -> None:
    _reads_by_state[read.state].inc()
    log_bytes.inc(read.bytes)
