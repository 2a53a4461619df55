"""Whether an outside system lets us work: said in a line of the log when it changes, and shown as a metric and in /readyz."""

import logging
import re

import kombu.exceptions
from prometheus_client import Gauge

from jobcast.redis.connection import ERRORS, explain

log = logging.getLogger(__name__)
UNREACHABLE = (*ERRORS, kombu.exceptions.KombuError)
"""What a call can raise when Redis or the broker does not answer, or refuses."""

_OF_A_PIPELINE = re.compile(r"Command # \d+ \(.*?\) of pipeline caused error: ", re.DOTALL)
"""What redis-py puts before Redis' own words: a command of Kombu's, with its binary keys."""


class Availability:
    """Of one system. Any thread may say; each system has one that does."""

    def __init__(self, system: str, up: Gauge) -> None:
        self.system = system
        self.trouble: str | None = "not reached yet"
        """What an operator is told; None while all is well."""
        self._up = up
        self._said: set[str] = set()
        """The troubles since it was well, each of which is told once: they may take turns several times a second."""

    def mark_down(self, error: Exception) -> None:
        """It does not answer, or refuses."""
        self._up.set(0)
        trouble = _OF_A_PIPELINE.sub("", explain(error))
        self.trouble = trouble
        if trouble not in self._said:
            self._said.add(trouble)
            log.warning(
                "an outside system is away, will be tried again", extra={"system": self.system, "error": trouble}
            )

    def mark_up(self) -> None:
        """It did what it was asked to. Cheap: may be said at every turn."""
        if self.trouble is None:
            return
        self.trouble = None
        self._up.set(1)
        if self._said:
            self._said.clear()
            log.info("an outside system is back", extra={"system": self.system})
