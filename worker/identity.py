"""A worker's name: its consumer and its queue are called by it, so only one live worker may have it.

Two live workers of one name would keep alive and empty what the other holds. So a key in Redis says which process has the
name. A worker that finds it taken waits for as long as the key of a killed worker lives, and then gives up.
"""

import contextlib
import logging
import os
import secrets
import signal
import threading
import time
from collections.abc import Callable

from jobcast.keys import Keys
from jobcast.redis.connection import connect_plain, explain
from jobcast.service.availability import UNREACHABLE
from jobcast.service.threads import Supervised
from worker import metrics
from worker.settings import WorkerSettings

log = logging.getLogger(__name__)

LIFETIME_SECONDS = 10.0
"""Of the key: how long a worker that was killed waits after its restart, at most."""
KEEP_SECONDS = 2.5
"""Between renewals: three may be lost to a slow Redis."""
GLANCE_SECONDS = 0.2
_KEEP = """
local value = redis.call('GET', KEYS[1])
if value and value ~= ARGV[1] and value ~= ARGV[2] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
return 1
"""
_LEAVE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"
LEAVING = "leaving "


class NameTaken(Exception):
    """Another live worker has the name; the text says what to do."""


class Name:
    """Take it before anything is read, and give it back when all tasks have ended."""

    def __init__(self, settings: WorkerSettings, name: str, refuse: Callable[["NameTaken"], object]) -> None:
        """`refuse` ends the process. It is called from a thread if Redis was unreachable at the start."""
        self._name = name
        self._refuse = refuse
        self._client = connect_plain(settings.redis_url, prefix=settings.key_prefix, decode_responses=True)
        self._key = Keys(settings.key_prefix).worker(name)
        self._token = secrets.token_hex(8)
        self._value = self._token
        self._is_ours = False
        self._stop = threading.Event()
        self._thread = Supervised("name", self._run, self._stop, restarted=metrics.task_restarted)

    def take(self, glance: Callable[[], object] = lambda: None) -> None:
        """Returns once the name is ours, and calls `glance` now and then, which may raise. Refuses when a live worker keeps
        it for the key's whole lifetime.

        While Redis is unreachable nothing can be done in the name either: returns at once, and takes it later.
        """
        with contextlib.suppress(*UNREACHABLE):
            self._take(glance)
        self._thread.start()

    def _take(self, glance: Callable[[], object]) -> None:
        deadline = time.monotonic() + LIFETIME_SECONDS + GLANCE_SECONDS
        while not self._is_ours and not self._stop.is_set():
            glance()
            if self._client.set(self._key, self._token, nx=True, px=int(LIFETIME_SECONDS * 1000)):
                self._is_ours = True
            elif time.monotonic() > deadline:
                text = (
                    f"another worker with the name {self._name} is alive; give each its own with -n, for example"
                    " -n scoring-1@%h, or stop the other one"
                )
                self._refuse(NameTaken(text))
                return
            else:
                self._stop.wait(GLANCE_SECONDS)

    def leave(self) -> None:
        """Begin nothing any more: what follows on our last tasks is for other workers. Never raises."""
        self._value = LEAVING + self._token
        if self._is_ours:
            self._keep()

    def give_back(self) -> None:
        """Does nothing when it is not ours. If Redis is unreachable, the name is free after its lifetime."""
        self._stop.set()
        self._thread.join(KEEP_SECONDS)
        try:
            self._client.eval(_LEAVE, 1, self._key, self._value)
        except UNREACHABLE as error:
            log.debug("the name could not be given back", extra={"error": explain(error)})
        self._client.close()

    def _run(self) -> None:
        while not self._is_ours and not self._stop.wait(GLANCE_SECONDS):
            with contextlib.suppress(*UNREACHABLE):
                self._take(lambda: None)
        while not self._stop.wait(KEEP_SECONDS):
            if not self._keep():
                return
            self._thread.succeeded()

    def _keep(self) -> bool:
        """False when another worker has taken it."""
        try:
            if self._client.eval(_KEEP, 1, self._key, self._value, self._token, int(LIFETIME_SECONDS * 1000)):
                return True
        except UNREACHABLE as error:
            log.debug("the name could not be renewed", extra={"error": explain(error)})
            return True
        # We were silent for longer than its lifetime, and a worker that was waiting for the name began.
        log.error(
            "another worker has taken our name, stopping; give each its own with -n", extra={"worker": self._name}
        )
        self._stop.set()
        os.kill(os.getpid(), signal.SIGTERM)
        return False
