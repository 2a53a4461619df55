"""Removes from a folder what has been kept for long enough. Object stores do that by themselves, by a lifecycle rule.

Only what has our shape is touched, `namespace/job/uid/pod/container.instance.log`: a folder may have other things in it.
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
"""With a `#` it is what a killed process left of an upload."""


def tidy(folder: Path, max_age: float) -> int:
    """Remove logs that were written more than `max_age` seconds ago, and directories that are left empty. Returns how many
    logs went. Raises OSError for the folder itself; what else cannot be removed stays.
    """
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".jobcast-") as probe:
        now = os.stat(probe.name).st_mtime  # by the clock that has dated the logs
    count = 0
    for namespace in _directories(folder):
        for job in _directories(namespace):
            for uid in _directories(job):
                if _UID.fullmatch(uid.name):
                    count += sum(_empty(pod, before=now - max_age) for pod in _directories(uid))
                    _remove_empty(uid)
            _remove_empty(job)
    return count


def tidy_apart(folder: Path, max_age: float) -> None:
    """In a thread that nobody waits for: a file system that hangs must hold up nothing else. One at a time."""
    if not any(thread.name == _THREAD for thread in threading.enumerate()):
        threading.Thread(target=_tidy_and_say, args=(folder, max_age), name=_THREAD, daemon=True).start()


def _tidy_and_say(folder: Path, max_age: float) -> None:
    try:
        if count := tidy(folder, max_age):
            log.info("logs removed that were kept for long enough", extra={"count": count})
    except OSError as error:
        log.warning("the folder of logs cannot be tidied", extra={"error": str(error)})


def _directories(path: Path) -> Iterator[Path]:
    """Those in it, real ones; none where it went meanwhile or may not be read."""
    with suppress(OSError), os.scandir(path) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield Path(entry.path)


def _empty(pod: Path, *, before: float) -> int:
    count = 0
    with suppress(OSError), os.scandir(pod) as entries:
        for entry in entries:
            with suppress(OSError):  # another worker was here first
                if _LOG.fullmatch(entry.name) and entry.stat(follow_symlinks=False).st_mtime < before:
                    os.unlink(entry.path)
                    count += 1
    _remove_empty(pod)
    return count


def _remove_empty(path: Path) -> None:
    with suppress(OSError):  # it is not empty; and whoever is about to write there makes it again
        path.rmdir()
