"""The Celery task around a handler: it calls the handler, and nothing else. What follows is decided by the parent process, which
learns how the task ended (worker/outcome.py)."""

import traceback
from typing import Any

from celery import Task
from celery.exceptions import Ignore, Reject, Retry

from jobcast import wire
from jobcast.handlers import Handler
from worker.outcome import LONGEST_REASON, LONGEST_TRACEBACK, HandlerFailed, Outcome


class HandlerTask(Task):  # type: ignore[type-arg]
    """Registered once for each handler, under the handler's name."""

    Request = "worker.outcome:OutcomeRequest"
    throws = (HandlerFailed,)
    typing = False
    handler: Handler

    def run(self, entry: str, body: str) -> None:
        """Raises HandlerFailed."""
        try:
            self.handler.call(wire.decode(body))
        except Ignore:
            return
        except (
            BaseException
        ) as error:  # one that is no Exception would end the process, or leave the task without an end
            outcome = _outcome(error)
        else:
            return
        raise HandlerFailed(tuple(outcome))


def _outcome(error: BaseException) -> Outcome:
    trace = traceback.format_exc()[-LONGEST_TRACEBACK:]
    if isinstance(error, Retry):
        seconds = error.when if isinstance(error.when, int | float) else None
        return Outcome("failed", _describe(error), trace, seconds)
    if isinstance(error, Reject) and not error.requeue:  # type: ignore[attr-defined] # the stubs lack it
        return Outcome("dead", _describe(error), trace)
    return Outcome("failed", _describe(error), trace)


def _describe(error: BaseException) -> str:
    try:
        text: Any = f"{type(error).__name__}: {error}"
    except Exception:  # formatting it runs foreign code
        text = f"{type(error).__name__}, without a readable text"
    return text if len(text) <= LONGEST_REASON else f"{text[: LONGEST_REASON - 1]}…"
