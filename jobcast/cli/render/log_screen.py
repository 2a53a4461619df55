"""Where a log goes while it is followed: standard output for its bytes, standard error for what is said beside it."""

import sys

from rich.console import Console
from rich.status import Status

from jobcast.cli.render.output import EscapedLog, complain, escape


class Exact:
    """Standard output for programs: the bytes as they are."""

    def __init__(self) -> None:
        self.size = 0
        """Bytes written."""

    def write(self, chunk: bytes) -> None:
        self.size += len(chunk)
        sys.stdout.buffer.write(chunk)

    def flush(self) -> None:
        sys.stdout.buffer.flush()

    def close(self) -> None:
        """At the end of a log; another may follow."""
        self.flush()


class Shown(Exact):
    """For people: nothing in it moves their terminal, and their prompt begins at a line's start."""

    def __init__(self) -> None:
        super().__init__()
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # one that knows ASCII alone
        self._log = EscapedLog()
        self._last = "\n"

    def write(self, chunk: bytes) -> None:
        self.size += len(chunk)
        self._show(self._log.feed(chunk))

    def flush(self) -> None:
        sys.stdout.flush()

    def close(self) -> None:
        self._show(self._log.feed(b"", is_last=True))
        if self._last != "\n":
            self._show("\n")
        self.flush()

    def _show(self, text: str) -> None:
        self._last = text[-1:] or self._last
        sys.stdout.write(text)


def output(raw: bool = False) -> Exact:
    return Shown() if sys.stdout.isatty() and not raw else Exact()


class LiveScreen:
    """The same while it comes, with a line about how things stand for whoever sits at a terminal until there is a log."""

    def __init__(self, out: Exact) -> None:
        self._out = out
        errors = Console(stderr=True)
        self._status = Status("", console=errors) if errors.is_terminal else None

    def write(self, chunk: bytes) -> None:
        self._still()  # it may be the same terminal
        self._out.write(chunk)

    def flush(self, *, is_end: bool = False) -> None:
        if is_end:
            self._out.close()
        else:
            self._out.flush()

    def say(self, line: str) -> None:
        self._still()
        complain(line)

    def state(self, text: str) -> None:
        if self._status is not None:
            self._status.update(escape(text))
            self._status.start()

    def close(self) -> None:
        self._still()
        self._out.close()

    def _still(self) -> None:
        if self._status is not None:
            self._status.stop()
