"""The app of this process, as `celery -A worker` looks for it. Wrong settings end the process here with exit code 2."""

from worker import pool_metrics

pool_metrics.begin()

# ruff: noqa: E402 - none of these may come before
from jobcast.handlers import registry
from jobcast.service.settings import read
from worker import log, steps
from worker.app import create_app
from worker.handlers import load
from worker.settings import WorkerSettings

settings = read(WorkerSettings)
app = create_app(settings, load(settings.handlers, registry, settings.metadata_labels))
log.install(settings)
steps.install(app)
