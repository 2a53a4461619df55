"""Metrics of handlers: what a process of the pool counts is seen in `/metrics`, by prometheus_client's multiprocess mode.

prometheus_client decides when it is imported whether numbers are kept in files that processes share. So `begin` comes before
everything else (worker/celery.py).
"""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
_ours: tuple[int, str] | None = None
"""The process that made the folder, and the folder."""


def begin() -> None:
    """A folder for this worker and its processes, unless the operator has named one; without a place for it, each process counts
    for itself, and only the parent's counts are seen."""
    if os.environ.get(FOLDER):
        return
    try:
        folder = tempfile.mkdtemp(prefix="jobcast-metrics-")
    except OSError:
        return
    global _ours
    os.environ[FOLDER] = folder
    _ours = (os.getpid(), folder)
    atexit.register(end)


def end() -> None:
    """Remove the folder, if this process made it. For a process that ends without running exit handlers."""
    if _ours is not None and _ours[0] == os.getpid():
        shutil.rmtree(_ours[1], ignore_errors=True)


def exposition() -> bytes:
    """All metrics of the worker and its processes as Prometheus' text."""
    from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
    from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

    from worker import metrics

    folder = os.environ.get(FOLDER)
    if not folder:
        return generate_latest()
    for pid in {path.stem.rpartition("_")[2] for path in Path(folder).glob("gauge_live*.db")}:
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            mark_process_dead(int(pid))  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    registry.register(metrics.stream_lag)
    ProcessCollector(registry=registry)
    return generate_latest(registry)
