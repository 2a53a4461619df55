"""A worker's name, of which there may be one at a time: its consumer and its queue are called by it.

Two live workers of one name would keep alive and empty what the other holds. So a key says who has the name, and is kept
alive; who finds it taken waits for as long as the key of a worker that died would live, and then gives up.
"""

import contextlib
import logging
import os
import secrets
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

from jobcast.keys import Keys
from jobcast.redis.connection import connect_plain, explain
from jobcast.service.availability import UNREACHABLE
from jobcast.service.threads import Supervised
from worker import metrics
from worker.settings import WorkerSettings

log = logging.getLogger(__name__)

LIFETIME_SECONDS = 10.0
"""Of the key. The longest that a container which was killed waits after its restart."""
KEEP_SECONDS = 2.5
"""Between two words that we are alive: three may be lost to a slow Redis."""
GLANCE_SECONDS = 0.2
_PROC = Path("/proc")
_TAKE = """
if redis.call('GET', KEYS[1]) == ARGV[3] then redis.call('DEL', KEYS[1]) end
return redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) and 1 or 0
"""
_KEEP = """
local said = redis.call('GET', KEYS[1])
if said and said ~= ARGV[1] and said ~= ARGV[2] then return 0 end
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
        """`refuse` ends the process. It is called from a thread where Redis was away at the start."""
        self._name = name
        self._refuse = refuse
        self._client = connect_plain(settings.redis_url, prefix=settings.key_prefix, decode_responses=True)
        self._key = Keys(settings.key_prefix).worker(name)
        self._token = f"{secrets.token_hex(8)} {_place(os.getpid())}"
        self._says = self._token
        self._is_ours = False
        self._stop = threading.Event()
        self._thread = Supervised("name", self._run, self._stop, restarted=metrics.task_restarted)

    def take(self, glance: Callable[[], object] = lambda: None) -> None:
        """Returns once the name is ours, and asks `glance` now and then, which may raise. A live worker that has it for the
        key's whole lifetime is a reason to refuse; one that this machine knows to be dead is not waited for.

        While Redis is away nobody can be asked, and nothing can be done in the name either: returns at once, and sees to it
        later.
        """
        with contextlib.suppress(*UNREACHABLE):
            self._take(glance)
        self._thread.start()

    def _take(self, glance: Callable[[], object]) -> None:
        deadline = time.monotonic() + LIFETIME_SECONDS + GLANCE_SECONDS
        while not self._is_ours and not self._stop.is_set():
            glance()
            said = str(self._client.get(self._key) or "")
            dead = said if is_gone(said) else ""
            if self._client.eval(_TAKE, 1, self._key, self._token, int(LIFETIME_SECONDS * 1000), dead):
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
        """Begin nothing any more: what follows on our last tasks is for other workers. Harmless when Redis is away."""
        self._says = LEAVING + self._token
        if self._is_ours:
            self._keep()

    def give_back(self) -> None:
        """Harmless when it is not ours, or Redis is away: then it is free after its lifetime."""
        self._stop.set()
        self._thread.join(KEEP_SECONDS)
        try:
            self._client.eval(_LEAVE, 1, self._key, self._says)
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
        """False when somebody else has taken it."""
        said = (self._says, self._token, int(LIFETIME_SECONDS * 1000))
        try:
            if self._client.eval(_KEEP, 1, self._key, *said):
                return True
        except UNREACHABLE as error:
            log.debug("the name could not be kept", extra={"error": explain(error)})
            return True
        # We were silent for longer than its lifetime, and a worker that was waiting for the name began.
        log.error(
            "another worker has taken our name, stopping; give each its own with -n", extra={"worker": self._name}
        )
        self._stop.set()
        os.kill(os.getpid(), signal.SIGTERM)
        return False


def is_gone(said: str) -> bool:
    """Whether the process that said so is known to be dead: it was of this machine and of our processes' numbering."""
    try:
        machine, numbering, number, _ = place = said.removeprefix(LEAVING).split(" ")[1:]
        return _place(os.getpid()).split(" ")[:2] == [machine, numbering] and _place(int(number)).split(" ") != place
    except ValueError:  # it could not say, or is a stranger's
        return False


def _place(pid: int) -> str:
    """Machine since its start, numbering of processes, number, and start of the process; empty where there is no such file.

    A numbering that is not ours (another container's) says nothing: its processes cannot be seen from here.
    """
    try:
        machine = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        numbering = os.readlink(_PROC / "self/ns/pid")
    except OSError:
        return ""
    try:
        state, *more = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return f"{machine} {numbering} {pid} none"
    return f"{machine} {numbering} {pid} {'none' if state == 'Z' else more[18]}"
