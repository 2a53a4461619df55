"""What the controller logs, as it would stand in its log."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jobcast.service.logging import Formatter


@contextmanager
def capture_logs() -> Iterator[list[dict[str, Any]]]:
    """The lines of the block, in a list that grows."""
    lines: list[dict[str, Any]] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(json.loads(self.format(record)))

    logger, handler = logging.getLogger("controller"), Handler()
    handler.setFormatter(Formatter(as_json=True))
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
