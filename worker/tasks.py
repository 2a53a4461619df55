"""The Celery task around a handler: start, call, end, each recorded in Redis.

ended already?          ── yes ─▶ skipped
started too often?      ── yes ─▶ dead letter   (its process died every time)
the handler returns     ────────▶ finished, and with the last handler of the entry it is acknowledged
the handler raises      ────────▶ Retry, later and later; after `max_retries` a dead letter
"""

import logging
import random
import secrets
import time
import traceback
from collections.abc import Callable
from typing import Any, TypeVar

from celery import Task
from celery.exceptions import Ignore, Retry

from jobcast import wire
from jobcast.handlers import Handler
from jobcast.redis.connection import ERRORS, explain
from worker.entries import ProcessEntries
from worker.outcome import Outcome

log = logging.getLogger(__name__)
R = TypeVar("R")

MAX_RETRIES = 3
BACKOFF_SECONDS = 1.0
"""Before the first retry; doubled for each further one."""
BACKOFF_MAX_SECONDS = 600.0
PATIENCE_SECONDS = 60.0
"""A retry in a handler's own queue, which any worker may have taken, counts as lost only so much later than planned. One that
no other worker can have taken is lost with its worker, and needs no patience."""
REDIS_PAUSES = (0.05, 0.5)
"""First and longest pause while Redis is unreachable."""
REDIS_PATIENCE = 30.0
"""Seconds that a task waits for Redis at its start and its end. After that it frees its process, and the entry is handed out
again."""


class HandlerTask(Task):  # type: ignore[type-arg]
    """Registered once for each handler, under the handler's name."""

    Request = "worker.outcome:OutcomeRequest"
    acks_late = True
    reject_on_worker_lost = True
    typing = False
    handler: Handler
    entries: ProcessEntries

    def run(self, entry: str, body: str) -> str:
        """Returns an Outcome. Raises Retry, which Celery takes for what it is."""
        name = self.handler.name
        consumer = self.request.hostname or "unknown"
        attempt = secrets.token_hex(8)  # not the task's id: it is handed out again under the same
        tries = _insist(lambda: self.entries().start(entry, name, consumer, attempt))
        if tries is None:
            return Outcome.UNRECORDED
        if tries == 0:
            return Outcome.SKIPPED
        limit = self._option("max_retries", MAX_RETRIES) + 1
        if tries > limit:
            return self._give_up(entry, body, tries - 1, "its process died each time, or its time limit passed", "")
        try:
            self.handler.call(wire.decode(body))
        except Ignore:
            pass
        except (
            BaseException
        ) as error:  # one that is no Exception would end the worker, or leave the task without an end
            if isinstance(error, Retry) and error.sig is not None:  # type: ignore[attr-defined] # the stubs lack it
                raise  # Celery has sent the task again; it has not where a Retry was raised by hand
            reason = _describe(error)
            if tries >= limit:
                return self._give_up(entry, body, tries, reason, traceback.format_exc())
            pause = self._pause(tries)
            log.warning(
                "handler failed, retrying",
                extra={"handler": name, "entry": entry, "tries": tries, "error": reason, "seconds": round(pause, 1)},
            )
            held = pause + (PATIENCE_SECONDS if "queue" in self.handler.options else 0.0)
            _insist(lambda: self.entries().pause(entry, name, held))
            raise self.retry(countdown=pause, max_retries=limit) from None
        ended = _insist(lambda: self.entries().finish(entry, name))
        return Outcome.UNRECORDED if ended is None else Outcome.DONE

    def _give_up(self, entry: str, body: str, tries: int, reason: str, trace: str) -> str:
        name = self.handler.name
        is_new = _insist(
            lambda: self.entries().dead_letter(entry, name, event=body, reason=reason, traceback=trace, tries=tries)
        )
        if is_new is None:
            return Outcome.UNRECORDED
        if not is_new:
            return Outcome.SKIPPED
        log.error(
            "handler failed for the last time, event moved to the dead letters",
            extra={"handler": name, "entry": entry, "tries": tries, "error": reason},
        )
        return Outcome.DEAD

    def _pause(self, tries: int) -> float:
        """Twice as long each time, with jitter, so that what failed together is not retried together."""
        first = self._option("retry_backoff", BACKOFF_SECONDS)
        longest = self._option("retry_backoff_max", BACKOFF_MAX_SECONDS)
        pause: float = min(float(longest), float(first) * 2 ** (tries - 1))
        return pause * random.uniform(0.5, 1) if self._option("retry_jitter", True) else pause  # noqa: S311 - no secret

    def _option(self, name: str, default: Any) -> Any:
        return self.handler.options.get(name, default)


def _describe(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # formatting it runs foreign code
        return f"{type(error).__name__}, without a readable text"


def _insist(ask: Callable[[], R]) -> R | None:
    """What Redis answers; None when it was unreachable for too long."""
    deadline = time.monotonic() + REDIS_PATIENCE
    pause, longest = REDIS_PAUSES
    while True:
        try:
            return ask()
        except ERRORS as error:
            if time.monotonic() > deadline:
                log.warning("redis unreachable, task gave up", extra={"error": explain(error)})
                return None
        time.sleep(pause)
        pause = min(pause * 2, longest)
