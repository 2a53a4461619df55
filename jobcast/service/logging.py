"""How a process logs: constant lower-case text and fields, one line each, as JSON or for people; never a secret.

`configure` is for processes that start themselves. Celery sets up logging in its own way: worker/log.py has its hooks.
"""

import json
import logging
import sys
from collections.abc import Iterable
from datetime import UTC, datetime

from jobcast.redis.connection import secrets_of
from jobcast.service.settings import CoreSettings

_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "data", "processName", "taskName"}


def is_json(settings: CoreSettings) -> bool:
    return (settings.log_format or ("console" if sys.stderr.isatty() else "json")) == "json"


class Formatter(logging.Formatter):
    """A record and its fields on one line. The `secrets` are masked wherever they appear."""

    def __init__(self, *, as_json: bool, secrets: Iterable[str] = ()) -> None:
        super().__init__()
        self._as_json = as_json
        self._secrets = sorted(set(secrets), key=len, reverse=True)

    def format(self, record: logging.LogRecord) -> str:
        fields = {name: value for name, value in vars(record).items() if name not in _PLAIN}
        text = record.getMessage()
        if record.name == "py.warnings":  # as logging.captureWarnings hands them on: several lines, with a path
            text, fields["warning"] = "python warns", text.strip()
        elif self._as_json and record.args:  # a library's: what it puts into its text is not in the event
            text, fields["message"] = str(record.msg), text
        time = _stamp(datetime.fromtimestamp(record.created, UTC))
        trace = self.formatException(record.exc_info) if record.exc_info else None
        level = record.levelname.lower()
        if self._as_json:
            if trace:
                fields["traceback"] = trace
            line = json.dumps(
                {"time": time, "level": level, "event": text, "logger": record.name, **fields},
                default=str,
                ensure_ascii=False,
            )
        else:
            line = " ".join((f"{time} {level:<7} {text}", *(f"{name}={value}" for name, value in fields.items())))
            line += f"\n{trace}" if trace else ""
        for secret in self._secrets:
            line = line.replace(secret, "***")
        return line


def formatter_of(settings: CoreSettings, *, as_json: bool | None = None) -> Formatter:
    """Masks the passwords of all URLs in the settings."""
    hidden = (getattr(settings, name) for name, field in type(settings).model_fields.items() if not field.repr)
    secrets = {secret for url in hidden if isinstance(url, str) for secret in secrets_of(url)}
    return Formatter(as_json=is_json(settings) if as_json is None else as_json, secrets=secrets)


def configure(settings: CoreSettings, own: Iterable[str] = ("controller", "jobcast")) -> None:
    """Log to stderr: from LOG_LEVEL on what our own loggers say, from warning on what libraries say."""
    level = getattr(logging, settings.log_level.upper())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter_of(settings))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for name in own:
        logging.getLogger(name).setLevel(level)
    logging.captureWarnings(True)


def _stamp(time: datetime) -> str:
    """RFC 3339."""
    return f"{time.isoformat(timespec='milliseconds')[:-6]}Z"
