"""Celery's hooks into how the worker logs; jobcast/service/logging.py has the form of a line."""

import logging
import os
import sys
from typing import Any

import celery.apps.worker
from celery import signals

from jobcast.redis.connection import explain
from jobcast.service.availability import UNREACHABLE
from jobcast.service.logging import formatter_of, is_json
from worker.settings import WorkerSettings

CELERY_DEFAULT = logging.WARNING
"""What `--loglevel` is when it is not given; then LOG_LEVEL holds."""
CHATTY = ("celery.worker.strategy", "celery.app.trace")
"""Two lines a task. Shown at debug."""


def install(settings: WorkerSettings) -> None:
    """Have Celery leave logging to us."""
    formatter = formatter_of(settings)

    def set_up(loglevel: Any = None, **_: Any) -> None:
        level = loglevel if isinstance(loglevel, int) and loglevel != CELERY_DEFAULT else settings.log_level.upper()
        handler = logging.StreamHandler()
        handler.setFormatter(formatter)
        handler.addFilter(soften)
        logging.basicConfig(level=level, handlers=[handler], force=True)
        logging.captureWarnings(True)
        is_debug = logging.getLogger().level <= logging.DEBUG
        for name in CHATTY:
            logging.getLogger(name).setLevel(logging.DEBUG if is_debug else logging.WARNING)

    def set_up_early(instance: Any, **_: Any) -> None:
        """Before Celery warns of anything. What it prints for people would be no JSON."""
        set_up()
        if is_json(settings):
            instance.quiet = True  # no banner; `worker starting` has what it says
            celery.apps.worker.safe_say = say  # type: ignore[attr-defined] # the stubs lack it

    def say(message: str, *_: Any) -> None:
        """What Celery says of its end. From a signal handler: no lock may be taken, so no logger."""
        record = logging.makeLogRecord({"name": "celery.apps.worker", "levelname": "INFO", "msg": message})
        os.write(sys.stderr.fileno(), f"{formatter.format(record)}\n".encode())

    signals.setup_logging.connect(set_up, weak=False)
    signals.celeryd_init.connect(set_up_early, weak=False)


def soften(record: logging.LogRecord) -> bool:
    """What Celery and Kombu log of an unreachable broker becomes a warning in one line: it is retried, and no bug."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, UNREACHABLE) and record.name.startswith(("celery.", "kombu.")):
        record.levelno, record.levelname = min((record.levelno, record.levelname), (logging.WARNING, "WARNING"))
        record.exc_info = None
        record.__dict__["error"] = explain(error)
    return True
