"""Removes expired logs from a folder. Object stores do that themselves, with a lifecycle rule.

Only paths of the form `namespace/job/uid/pod/container.instance.log` are touched: a folder may contain other files.
"""

import logging
import os
import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

log = logging.getLogger(__name__)
_THREAD = "log folder"
_UID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_LOG = re.compile(r".+\.\d+\.log(#\d+)?")
"""With a `#`: an incomplete upload that a killed process left."""


def remove_expired(folder: Path, max_age: float) -> int:
    """Remove logs written more than `max_age` seconds ago, and directories that are empty then. Returns the number of logs.
    Raises OSError when the folder itself cannot be written; anything else that cannot be removed stays.
    """
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".jobcast-") as probe:
        now = os.stat(probe.name).st_mtime  # the clock that dated the logs
    count = 0
    for namespace in _directories(folder):
        for job in _directories(namespace):
            for uid in _directories(job):
                if _UID.fullmatch(uid.name):
                    count += sum(_remove_logs(pod, before=now - max_age) for pod in _directories(uid))
                    _remove_empty(uid)
            _remove_empty(job)
    return count


def start_removing_expired(folder: Path, max_age: float) -> None:
    """Remove them in a background thread, one at a time: a file system that hangs must delay nothing else."""
    if not any(thread.name == _THREAD for thread in threading.enumerate()):
        threading.Thread(target=_remove_and_log, args=(folder, max_age), name=_THREAD, daemon=True).start()


def _remove_and_log(folder: Path, max_age: float) -> None:
    try:
        if count := remove_expired(folder, max_age):
            log.info("expired logs removed", extra={"count": count})
    except OSError as error:
        log.warning("expired logs cannot be removed", extra={"error": str(error)})


def _directories(path: Path) -> Iterator[Path]:
    """The real directories in it; none when it no longer exists or may not be read."""
    with suppress(OSError), os.scandir(path) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield Path(entry.path)


def _remove_logs(pod: Path, *, before: float) -> int:
    count = 0
    with suppress(OSError), os.scandir(pod) as entries:
        for entry in entries:
            with suppress(OSError):  # another worker removed it first
                if _LOG.fullmatch(entry.name) and entry.stat(follow_symlinks=False).st_mtime < before:
                    os.unlink(entry.path)
                    count += 1
    _remove_empty(pod)
    return count


def _remove_empty(path: Path) -> None:
    with suppress(OSError):  # not empty; a writer that needs it creates it again
        path.rmdir()
