"""How the worker logs: constant text and fields, one line each, as JSON or for people; never a secret."""

import logging
import os
import sys
from typing import Any

import celery.apps.worker
from celery import signals

from jobcast.redis.connection import explain, secrets_of
from jobcast.service import logging as lines
from jobcast.service.availability import UNREACHABLE
from worker.settings import WorkerSettings

CELERY_DEFAULT = logging.WARNING
"""What `--loglevel` is when nobody gave it; then LOG_LEVEL holds."""
CHATTY = ("celery.worker.strategy", "celery.app.trace")
"""Two lines a task. Shown at debug."""


class Formatter(lines.Formatter):
    """Passwords of REDIS_URL and of Celery's URLs are masked wherever they appear."""

    def __init__(self, settings: WorkerSettings, *, as_json: bool) -> None:
        urls = (settings.redis_url, settings.celery_broker_url, settings.celery_result_backend)
        super().__init__(as_json=as_json, secrets={secret for url in urls if url for secret in secrets_of(url)})


def install(settings: WorkerSettings) -> None:
    """Have Celery leave logging to us."""
    as_json = (settings.log_format or ("console" if sys.stderr.isatty() else "json")) == "json"
    formatter = Formatter(settings, as_json=as_json)

    def set_up(loglevel: Any = None, **_: Any) -> None:
        level = loglevel if isinstance(loglevel, int) and loglevel != CELERY_DEFAULT else settings.log_level.upper()
        handler = logging.StreamHandler()
        handler.setFormatter(formatter)
        handler.addFilter(calm)
        root = logging.getLogger()
        root.handlers[:] = [handler]
        root.setLevel(level)
        logging.captureWarnings(True)
        for name in CHATTY:
            logging.getLogger(name).setLevel(logging.DEBUG if root.level <= logging.DEBUG else logging.WARNING)

    def set_up_early(instance: Any, **_: Any) -> None:
        """Before Celery warns of anything. What it prints for people, and no logger sees, would be no JSON."""
        set_up()
        if as_json:
            instance.quiet = True  # no banner; `worker started` has what it says
            celery.apps.worker.safe_say = say  # type: ignore[attr-defined] # the stubs lack it

    def say(message: str, *_: Any) -> None:
        """What Celery says of its end. From a signal handler: no lock may be taken, so no logger."""
        record = logging.makeLogRecord({"name": "celery.apps.worker", "levelname": "INFO", "msg": message})
        os.write(sys.stderr.fileno(), f"{formatter.format(record)}\n".encode())

    signals.setup_logging.connect(set_up, weak=False)
    signals.celeryd_init.connect(set_up_early, weak=False)


def calm(record: logging.LogRecord) -> bool:
    """What Celery and Kombu say of a broker that is away is a warning and one line: it is tried again, and no mistake of code."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, UNREACHABLE) and record.name.startswith(("celery.", "kombu.")):
        record.levelno, record.levelname = min((record.levelno, record.levelname), (logging.WARNING, "WARNING"))
        record.exc_info = None
        record.__dict__["error"] = explain(error)
    return True
