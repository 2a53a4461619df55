"""Where a followed log is shown."""

from typing import Protocol


class Screen(Protocol):
    def write(self, chunk: bytes) -> None: ...

    def flush(self, *, is_end: bool = False) -> None: ...

    def say(self, line: str) -> None:
        """A message beside the log."""

    def state(self, text: str) -> None:
        """The present state; shown until the next one."""
