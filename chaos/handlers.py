"""What the workers do with an event: write down its id. One file per process, so that a kill loses at most one line."""

import os
import time
from pathlib import Path

from jobcast import on
from jobcast.event import Event

WORK_SECONDS = 0.005
"""Long enough for a fault to fall into a task now and then."""


@on()
def note(event: Event) -> None:
    time.sleep(WORK_SECONDS)
    file = Path(os.environ["CHAOS_HANDLED"]) / f"{os.getpid()}.txt"
    with file.open("a") as lines:
        lines.write(f"{event.id}\n")


def handled(folder: Path) -> frozenset[str]:
    """The ids that workers have written down."""
    return frozenset(line for file in folder.glob("*.txt") for line in file.read_text().splitlines())
