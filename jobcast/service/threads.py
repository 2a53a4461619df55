"""Long-running threads. What one raises is logged and counted, and its work starts again."""

import logging
import threading
from collections.abc import Callable

from jobcast.backoff import pause

log = logging.getLogger(__name__)
PAUSE_SECONDS = (0.1, 5.0)
"""Before a failed thread or task starts again, first and longest."""
HOPELESS = 20
"""Failures in a row, a minute and a half of them, after which only a restart of the process may help."""


class Supervised:
    """A thread that runs `run` until its owner sets `stop`, whatever `run` raises. `run` ends soon after `stop` is set."""

    def __init__(
        self,
        name: str,
        run: Callable[[], object],
        stop: threading.Event,
        *,
        restarted: Callable[[str], None] = lambda name: None,
    ) -> None:
        """`restarted` is called with the name at each restart."""
        self._name = name
        self._run = run
        self._stop = stop
        self._restarted = restarted
        self._failures = 0
        self._last = ""
        self._thread = threading.Thread(target=self._keep, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self, timeout: float) -> None:
        """Returns when the thread has ended, or after `timeout` seconds. Does nothing when it never started."""
        if self._thread.is_alive():
            self._thread.join(timeout)

    def succeeded(self) -> None:
        """For `run` to call when its work has succeeded: its failures are forgotten."""
        self._failures = 0

    def unhealthy_reason(self) -> str | None:
        """What is wrong with the thread, or None."""
        if not self._thread.is_alive() and not self._stop.is_set():
            return "thread has ended"
        return f"keeps failing: {self._last}" if self._failures >= HOPELESS else None

    def _keep(self) -> None:
        while not self._stop.is_set():
            try:
                self._run()
                if self._stop.is_set():
                    return
                self._last = "ended too early"
                log.error("thread ended, restarting", extra={"task": self._name})
            except Exception as error:
                self._last = f"{type(error).__name__}: {error}"
                log.exception("thread failed, restarting", extra={"task": self._name})
            self._restarted(self._name)
            self._failures += 1
            self._stop.wait(pause(self._failures, PAUSE_SECONDS))
