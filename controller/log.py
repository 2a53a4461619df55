"""Structured logs: constant lower-case text plus fields, JSON for machines, coloured lines for a person at a terminal."""

import logging
import sys
from typing import Any

import msgspec
import structlog

from jobcast.redis.connection import secrets_of
from jobcast.service import logging as lines
from jobcast.service.settings import CoreSettings


def configure(settings: CoreSettings) -> None:
    is_console = settings.log_format == "console" or (settings.log_format is None and sys.stderr.isatty())
    level = getattr(logging, settings.log_level.upper())
    if is_console:
        processors: list[structlog.typing.Processor] = [
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            # Its default, where rich is installed, shows the variables of each frame: tokens and passwords among them.
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            ),
        ]
    else:
        processors = [_render]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr)
        if is_console
        else structlog.BytesLoggerFactory(sys.stderr.buffer),
        cache_logger_on_first_use=True,
    )
    # Libraries log through the standard library; what they warn of is worth a line, of the same form and in the same place.
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(lines.Formatter(as_json=not is_console, secrets=secrets_of(settings.redis_url)))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("jobcast").setLevel(level)
    logging.captureWarnings(True)


def _render(logger: Any, method: str, event: structlog.typing.EventDict) -> bytes:
    """The line as JSON: time, level, event, then its fields. One step: a chain of processors costs twice as much."""
    if event.get("exc_info"):
        event = structlog.processors.format_exc_info(logger, method, event)
        event["traceback"] = event.pop("exception")
    head = {
        "time": lines.now(),
        "level": "error" if method == "exception" else method,
        "event": event.pop("event", None),
    }
    return msgspec.json.encode({**head, **event}, enc_hook=str)
