"""Whether a dependency (Redis, a broker) can be used: logged when it changes, and shown as a metric and in /readyz."""

import logging
import re

import kombu.exceptions
from prometheus_client import Gauge

from jobcast.redis.connection import ERRORS, explain

log = logging.getLogger(__name__)
UNREACHABLE = (*ERRORS, kombu.exceptions.KombuError)
"""What a call can raise when Redis or the broker does not answer, or refuses."""

_OF_A_PIPELINE = re.compile(r"Command # \d+ \(.*?\) of pipeline caused error: ", re.DOTALL)
"""What redis-py puts before Redis' own text: a command of Kombu's, with its binary keys."""


class Availability:
    """Of one system. One thread marks it, any may read it."""

    def __init__(self, system: str, up: Gauge) -> None:
        self.system = system
        self.error: str | None = "not reached yet"
        """For an operator; None while the system can be used."""
        self._up = up
        self._logged: set[str] = set()
        """Errors since it could be used, each logged once: they may alternate several times a second."""

    def mark_down(self, error: Exception) -> None:
        """It does not answer, or refuses."""
        self._up.set(0)
        text = self.error = _OF_A_PIPELINE.sub("", explain(error))
        if text not in self._logged:
            self._logged.add(text)
            log.warning("dependency unreachable, retrying", extra={"system": self.system, "error": text})

    def mark_up(self) -> None:
        """It did what it was asked to. Cheap: may be called in every round."""
        if self.error is None:
            return
        self.error = None
        self._up.set(1)
        if self._logged:
            self._logged.clear()
            log.info("dependency reachable again", extra={"system": self.system})
