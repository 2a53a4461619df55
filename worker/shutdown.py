"""How long a stop may take: GRACE_SECONDS after the first signal, no longer after a second SIGTERM.

What still runs then is given up; its entry stays pending, and runs again elsewhere or after the restart.
"""

import contextlib
import ctypes
import logging
import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any, NoReturn

from billiard import active_children, pool
from celery import signals

from jobcast.service.settings import EXIT_FAILED
from jobcast.service.threads import Supervised
from worker import metrics, pool_metrics

log = logging.getLogger(__name__)
PR_SET_PDEATHSIG = 1
"""Of prctl(2): the signal that a process gets when its parent dies."""
GLANCE_SECONDS = 0.1
"""How often the thread checks for a signal: a stop takes at most so much longer."""


LAST_WORDS_SECONDS = 2.0
"""How long a process of the pool waits for its parent to take note of what it did last. A parent that stops may have read for the
last time while a task began; billiard's process then waits for 30 s, longer than any grace."""


def shorten_last_words() -> None:
    """Before the pool is forked."""
    looks = LAST_WORDS_SECONDS / pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_INTERVAL
    pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT = int(looks)


def die_with_the_parent(**_: Any) -> None:
    """In a process of the pool: what a worker that was killed leaves behind would run beside whoever takes over."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def end_at_once(code: int) -> NoReturn:
    """End the process whatever its threads do, and leave no files behind."""
    pool_metrics.end()
    os._exit(code)


class Grace:
    """Install it in the main thread, once Celery has installed its signal handlers.

    A signal handler may interrupt anything, itself too, and Celery's takes locks. So ours only sets a note for a thread, and
    calls Celery's for the first SIGTERM alone.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._sigterms = 0
        self._deadline: float | None = None
        self._celerys: Any = None

    def install(self) -> None:
        self._celerys = signal.signal(signal.SIGTERM, self._on_sigterm)
        signals.worker_shutting_down.connect(self._begin)  # a stop for another reason: Ctrl-C, a remote command
        Supervised(
            "grace", self._watch, threading.Event(), restarted=metrics.task_restarted
        ).start()  # it ends with the process, never before

    def _on_sigterm(self, signum: int, frame: FrameType | None) -> None:
        self._sigterms += 1
        if self._sigterms == 1:
            self._begin()
            if callable(self._celerys):
                self._celerys(signum, frame)

    def _begin(self, **_: Any) -> None:
        if self._deadline is None:
            self._deadline = time.monotonic() + self._seconds

    def _watch(self) -> None:
        while self._sigterms < 2 and (self._deadline is None or time.monotonic() < self._deadline):
            time.sleep(GLANCE_SECONDS)
        log.error("grace period is over, killing tasks that still run")
        for child in active_children():
            if child.pid is not None:
                with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
                    os.kill(child.pid, signal.SIGKILL)
        end_at_once(EXIT_FAILED)
