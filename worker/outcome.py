"""How a task ended, as the parent process learns it, whichever pool ran it.

With prefork the task ends in a child, and what the child notes is gone with it. Celery calls its Request in the parent, with
what the task returned or raised and how long it took.
"""

import time
from typing import Any, Literal, NamedTuple

from billiard.einfo import ExceptionWithTraceback  # type: ignore[attr-defined] # the stubs lack it
from billiard.exceptions import Terminated, TimeLimitExceeded
from celery.worker.request import Request

from worker import metrics

LONGEST_REASON = 4096
LONGEST_TRACEBACK = 16_384
"""Characters that reach the parent: a handler's exception may have a text of megabytes."""


class Outcome(NamedTuple):
    """Of one run of a handler."""

    kind: Literal["done", "failed", "lost", "dead", "back"]
    """`lost`: its process died, or its time limit passed. `back`: it did not begin."""
    reason: str = ""
    traceback: str = ""
    seconds: float | None = None
    """Until the next try, where the handler asks for a pause of its own."""


DONE = Outcome("done")
BACK = Outcome("back")
REVOKED = Outcome("dead", "its task was revoked")


class HandlerFailed(Exception):
    """Raised by the task in place of what its handler raised, which may be huge, or not to be pickled."""

    def __init__(self, outcome: tuple[Any, ...]) -> None:
        super().__init__(outcome)
        self.outcome = Outcome(*outcome)

    def __str__(self) -> str:
        return self.outcome.reason

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.outcome.reason!r})"


class OutcomeRequest(Request):
    """Tells its message how the task ended."""

    def __init_subclass__(cls, **options: Any) -> None:
        # Celery derives a class from this one for each task, with an on_success that does not call ours: wrap it.
        super().__init_subclass__(**options)
        inner = cls.on_success

        def on_success(self: Any, failed__retval__runtime: Any, **kwargs: Any) -> Any:
            failed, _, seconds = failed__retval__runtime
            if seconds is None and self.time_start:  # Celery does not say how long one took that raised
                seconds = time.time() - self.time_start
            if seconds is not None:
                metrics.handler_seconds(self.name).observe(seconds)
            result = inner(self, failed__retval__runtime, **kwargs)
            if not failed:
                self.message.end(DONE)
            return result

        cls.on_success = on_success  # type: ignore[method-assign]

    def on_accepted(self, pid: Any, time_accepted: float) -> None:
        super().on_accepted(pid, time_accepted)
        self.message.has_begun = True
        self.message.pid = pid

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        error = exc_info.exception
        if isinstance(error, ExceptionWithTraceback):
            error = error.exc
        try:
            return super().on_failure(exc_info, send_failed_event, return_ok)
        finally:
            # A task that was revoked and ended for it has said so already.
            if not isinstance(error, Terminated):
                self.message.end(_outcome(error))

    def _announce_revoked(self, *args: Any, **kwargs: Any) -> None:
        super()._announce_revoked(*args, **kwargs)  # type: ignore[misc] # the stubs lack it
        self.message.end(REVOKED)


def _outcome(error: BaseException) -> Outcome:
    if isinstance(error, HandlerFailed):
        return error.outcome
    if isinstance(error, TimeLimitExceeded):
        return Outcome("lost", "its time limit passed")
    return Outcome("lost", "its process died")
