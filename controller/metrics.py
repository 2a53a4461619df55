"""Every metric of the controller, with bounded labels: never an evaluation's or a Job's name. Children are bound once."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from jobcast.event import Status
from jobcast.ledger import Answer

registry = CollectorRegistry()
"""Our own, not the library's global one: the worker's metrics have some of the same names."""
ProcessCollector(registry=registry)

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
"""From one round trip to Redis to the longest wait for a log, and past it."""

events = Counter("jobcast_events_total", "Events told", ["status"], registry=registry)
latency = Histogram(
    "jobcast_event_latency_seconds",
    "From the transition being seen to the ledger's answer",
    buckets=SECONDS,
    registry=registry,
)
watch_age = Gauge(
    "jobcast_watch_last_byte_age_seconds",
    "Since the API server was heard last",
    ["resource", "namespace"],
    registry=registry,
)
watch_restarts = Counter("jobcast_watch_restarts_total", "Watches opened again", ["reason"], registry=registry)
skipped = Counter(
    "jobcast_watch_skipped_total", "Lines and objects that could not be read", ["reason"], registry=registry
)
unnamed = Counter("jobcast_jobs_without_eval_id_total", "Jobs told under their own name", registry=registry)
warnings = Counter("jobcast_job_warnings_total", "Jobs whose annotations make no sense", registry=registry)
jobs = Gauge("jobcast_jobs", "Jobs in the store", ["status"], registry=registry)
queue_depth = Gauge("jobcast_queue_depth", "Keys that wait to be reconciled", registry=registry)
reconcile = Histogram("jobcast_reconcile_seconds", "One reconcile", buckets=SECONDS, registry=registry)
errors = Counter(
    "jobcast_reconcile_errors_total", "Reconciles that failed and are retried", ["kind"], registry=registry
)
log_bytes = Counter("jobcast_log_bytes_total", "Bytes of log read", registry=registry)
log_reads = Counter("jobcast_log_reads_total", "Log reads that ended", ["state"], registry=registry)
redis_up = Gauge("jobcast_redis_up", "Whether Redis took the last command", registry=registry)
dead_groups = Gauge(
    "jobcast_dead_groups", "Consumer groups that are behind and that nobody reads for", registry=registry
)
answers = Counter("jobcast_ledger_answers_total", "Answers to steps", ["answer"], registry=registry)
finalizers_held = Gauge("jobcast_finalizers_held", "Jobs that our finalizer holds", registry=registry)
finalizers_released_untold = Counter(
    "jobcast_finalizers_released_untold_total",
    "Jobs let go after FINALIZER_MAX_SECONDS, before their end was told",
    registry=registry,
)
task_restarts = Counter(
    "jobcast_task_restarts_total", "Tasks that ended unexpectedly and were started again", ["task"], registry=registry
)
build = Gauge("jobcast_build_info", "What runs here", ["version"], registry=registry)

# Looking a child up costs more than counting: those that are counted for every Job are looked up once.
events_by_status = {status: events.labels(status.value) for status in Status}
answers_by_answer = {answer: answers.labels(answer.value) for answer in Answer}
