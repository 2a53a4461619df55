"""How the parent process learns how a task ended, whichever pool ran it.

With prefork the task ends in a child, and what the child counts or notes is gone with it. Celery calls its Request in the
parent, with what the task returned and how long it took.
"""

import time
from enum import StrEnum
from typing import Any, TypeAlias

from billiard.einfo import ExceptionWithTraceback  # type: ignore[attr-defined] # the stubs lack it
from billiard.exceptions import Terminated, WorkerLostError
from celery.worker import state
from celery.worker.request import Request

from worker import metrics


class Outcome(StrEnum):
    """What a handler's task returns."""

    DONE = "done"
    SKIPPED = "skipped"
    """Another task of the same entry has ended it before."""
    DEAD = "dead"
    """Given up on, with a dead letter."""
    UNRECORDED = "unrecorded"
    """Redis was unreachable at the start or the end. The entry is handed out again."""


Handed: TypeAlias = tuple[str, str]
"""A task's id and its entry. The id alone is not enough: an event published again, because Redis forgot, is another entry,
and the task of the former one may still run."""


def handed(request: Any) -> Handed:
    """Of a request of ours; of any other, one that matches nothing."""
    entry = request.args[0] if request.args else ""
    return request.id, entry if isinstance(entry, str) else ""


def entries_here() -> set[str]:
    """The entries of all tasks that this worker was given and has not ended, also those that others sent. From any thread."""
    while True:
        try:
            return {handed(request)[1] for request in (*state.reserved_requests, *state.active_requests)}
        except RuntimeError:  # Celery's own thread has changed them meanwhile
            continue


class OutcomeRequest(Request):
    """Reports each task that ended, and each that was lost with its process or by its time limit."""

    def __init_subclass__(cls, **options: Any) -> None:
        # Celery derives a class from this one for each task, with an on_success that does not call ours: wrap it.
        super().__init_subclass__(**options)
        inner = cls.on_success

        def on_success(self: Any, failed__retval__runtime: Any, **kwargs: Any) -> Any:
            failed, returned, seconds = failed__retval__runtime
            if seconds is None and self.time_start:  # Celery does not say how long one took that raised
                seconds = time.time() - self.time_start
            if seconds is not None:
                metrics.handler_seconds(self.name).observe(seconds)
            result = inner(self, failed__retval__runtime, **kwargs)
            if not failed:
                # The pool hands over the repr of what the task returned.
                _ended(self, str(returned).strip("'"))
            return result

        cls.on_success = on_success  # type: ignore[method-assign]

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        result = super().on_failure(exc_info, send_failed_event, return_ok)
        # `return_ok`: the task itself raised, a Retry for example. A lost process is given to the next one by the broker
        # (reject_on_worker_lost), and a revoked task has a signal of its own. What is left ran into its time limit.
        error = exc_info.exception
        if isinstance(error, ExceptionWithTraceback):
            error = error.exc
        if not return_ok and not isinstance(error, WorkerLostError | Terminated):
            _ended(self, Outcome.UNRECORDED)
        return result


def _ended(request: Any, outcome: str) -> None:
    if outcome == Outcome.DEAD:
        metrics.dead_letters.inc()
    request.task.app.context.on_task_ended(handed(request), outcome == Outcome.UNRECORDED)
