"""An API server in a process of its own, so that what is measured has its CPU to itself."""

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any


@contextmanager
def beside(serve: Callable[[Any, Connection], None], what: Any) -> Iterator[tuple[str, Connection]]:
    """Runs `serve(what, line)`, which first sends the port it serves on; its URL, and our end of the line."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(what, theirs), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}", ours
    finally:
        process.terminate()
        process.join()
