"""Lines of the log out of Python's own log records: constant text and fields, as JSON or for people; never a secret."""

import json
import logging
from collections.abc import Iterable
from datetime import UTC, datetime

_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "data", "processName", "taskName"}


def now() -> str:
    """RFC 3339, as all our lines have it."""
    return stamp(datetime.now(UTC))


def stamp(time: datetime) -> str:
    return f"{time.isoformat(timespec='milliseconds')[:-6]}Z"


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
        time = stamp(datetime.fromtimestamp(record.created, UTC))
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
