"""Memory of the store per watched Job: a Job that runs with its Pod, and one whose end is published."""

import gc
import tracemalloc
from collections.abc import Callable

import msgspec

from benchmarks.objects import job, pod
from controller.store import Store
from jobcast.jobs.decode import Reading, WireJob, WirePod
from jobcast.jobs.model import Job, Pod

JOBS = 10_000


def _decoded(number: int) -> tuple[Job, Pod]:
    """Through bytes, as from the wire: every string is an object of its own."""
    reading = Reading()
    wire = msgspec.json.decode(msgspec.json.encode(job(number)), type=WireJob)
    wire_pod = msgspec.json.decode(msgspec.json.encode(pod(number)), type=WirePod)
    return reading.job(wire), reading.pod(wire_pod)


def _bytes_a_job(fill: Callable[[Store, Job, Pod], None]) -> float:
    gc.collect()
    tracemalloc.start()
    store = Store()
    for number in range(JOBS):
        fill(store, *_decoded(number))
    gc.collect()
    used, _peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return used / JOBS


def _run(store: Store, found: Job, its_pod: Pod) -> None:
    store.put_job(found)
    store.put_pod(its_pod)


def _end(store: Store, found: Job, its_pod: Pod) -> None:
    _run(store, found, its_pod)
    store.drop(found.uid)


def rows() -> list[tuple[str, str, str]]:
    whole = len(msgspec.json.encode(job(0))) + len(msgspec.json.encode(pod(0)))
    running, ended = _bytes_a_job(_run), _bytes_a_job(_end)
    return [
        (
            "memory of a Job that runs, with its Pod",
            f"{running:,.0f} B",
            f"1/{whole / running:.0f} of their JSON ({whole:,} B)",
        ),
        ("memory of a Job whose end is published", f"{ended:,.0f} B", ""),
    ]
