"""How the worker logs: constant text and fields, one line each, as JSON or for people; never a secret."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

from celery import signals

from jobcast.connection import explain, secrets_of
from worker.presence import AWAY
from worker.settings import WorkerSettings

_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "data", "processName", "taskName"}
CELERY_DEFAULT = logging.WARNING
"""What `--loglevel` is when nobody gave it; then LOG_LEVEL holds."""
CHATTY = ("celery.worker.strategy", "celery.app.trace")
"""Two lines a task. Shown at debug."""


def install(settings: WorkerSettings) -> None:
    """Have Celery leave logging to us."""

    def set_up(loglevel: Any = None, **_: Any) -> None:
        level = loglevel if isinstance(loglevel, int) and loglevel != CELERY_DEFAULT else settings.log_level.upper()
        as_json = (settings.log_format or ("console" if sys.stderr.isatty() else "json")) == "json"
        handler = logging.StreamHandler()
        handler.setFormatter(Formatter(settings, as_json=as_json))
        handler.addFilter(calm)
        root = logging.getLogger()
        root.handlers[:] = [handler]
        root.setLevel(level)
        for name in CHATTY:
            logging.getLogger(name).setLevel(logging.DEBUG if root.level <= logging.DEBUG else logging.WARNING)

    signals.setup_logging.connect(set_up, weak=False)


def calm(record: logging.LogRecord) -> bool:
    """What Celery and Kombu say of a broker that is away is a warning and one line: it is tried again, and no mistake of code."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, AWAY) and record.name.startswith(("celery.", "kombu.")):
        record.levelno, record.levelname = min((record.levelno, record.levelname), (logging.WARNING, "WARNING"))
        record.exc_info = None
        record.__dict__["error"] = explain(error)
    return True


class Formatter(logging.Formatter):
    """A record and its fields on one line. Passwords of REDIS_URL and of Celery's URLs are masked wherever they appear."""

    def __init__(self, settings: WorkerSettings, *, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json
        urls = (settings.redis_url, settings.celery_broker_url, settings.celery_result_backend)
        self._secrets = sorted({secret for url in urls if url for secret in secrets_of(url)}, key=len, reverse=True)

    def format(self, record: logging.LogRecord) -> str:
        fields = {name: value for name, value in vars(record).items() if name not in _PLAIN}
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        trace = self.formatException(record.exc_info) if record.exc_info else None
        level = record.levelname.lower()
        if self._as_json:
            if trace:
                fields["traceback"] = trace
            line = json.dumps(
                {"time": time, "level": level, "event": record.getMessage(), "logger": record.name, **fields},
                default=str,
                ensure_ascii=False,
            )
        else:
            line = " ".join(
                (f"{time} {level:<7} {record.getMessage()}", *(f"{name}={value}" for name, value in fields.items()))
            )
            line += f"\n{trace}" if trace else ""
        for secret in self._secrets:
            line = line.replace(secret, "***")
        return line
