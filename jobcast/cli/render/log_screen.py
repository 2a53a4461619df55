"""Shows logs: their bytes on standard output, messages on standard error."""

import itertools
import sys

from rich.console import Console
from rich.status import Status
from rich.text import Text

from jobcast.cli.render.output import LONGEST_LINE, EscapedLog, complain, console, escape, escape_lines

COLORS = ("cyan", "green", "magenta", "yellow", "blue", "red", "bright_cyan", "bright_green", "bright_magenta")
"""Of Pods, one after the other."""


class Exact:
    """Standard output for programs: the exact bytes."""

    def __init__(self) -> None:
        self.size = 0
        """Bytes written."""

    def write(self, chunk: bytes) -> None:
        self.size += len(chunk)
        sys.stdout.buffer.write(chunk)

    def write_line(self, label: str, line: bytes) -> None:
        """A line of one of several logs."""
        self.size += len(line)
        sys.stdout.buffer.write((f"{label} ".encode() if label else b"") + line + b"\n")

    def flush(self) -> None:
        sys.stdout.buffer.flush()

    def close(self) -> None:
        """Called at the end of each log."""
        self.flush()


class Shown(Exact):
    """For people: control characters are escaped, and the prompt begins on a new line."""

    def __init__(self) -> None:
        super().__init__()
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a terminal with ASCII only
        self._log = EscapedLog()
        self._last = "\n"
        self._labels: dict[str, str] = {}
        """With their colors."""
        self._colors = itertools.cycle(COLORS)

    def write(self, chunk: bytes) -> None:
        self.size += len(chunk)
        self._show(self._log.feed(chunk))

    def write_line(self, label: str, line: bytes) -> None:
        self.size += len(line)
        if label and label not in self._labels:
            with (out := console()).capture() as colored:
                out.print(Text(escape(label), next(self._colors)), end=" ", soft_wrap=True)
            self._labels[label] = colored.get()
        text = line.removesuffix(b"\r").decode(errors="replace")
        self._show(self._labels.get(label, "") + "".join(escape_lines(text)) + "\n")

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
    """The same for logs that are followed; at a terminal with a status line until there is output."""

    def __init__(self, out: Exact) -> None:
        self._out = out
        errors = Console(stderr=True)
        self._status = Status("", console=errors) if errors.is_terminal else None

    def write(self, chunk: bytes) -> None:
        self.clear_status()  # it may be the same terminal
        self._out.write(chunk)

    def write_line(self, label: str, line: bytes) -> None:
        self.clear_status()
        self._out.write_line(label, line)

    def flush(self, *, is_end: bool = False) -> None:
        if is_end:
            self._out.close()
        else:
            self._out.flush()

    def say(self, line: str) -> None:
        self.clear_status()
        complain(line)

    def state(self, text: str) -> None:
        if self._status is not None:
            self._status.update(escape(text))
            self._status.start()

    def close(self) -> None:
        self.clear_status()
        self._out.close()

    def clear_status(self) -> None:
        if self._status is not None:
            self._status.stop()


class PrefixedScreen:
    """One of several logs on a LiveScreen: whole lines, each with the label. An empty label writes the line alone."""

    def __init__(self, screen: LiveScreen, label: str) -> None:
        self._screen = screen
        self._label = label
        self._rest = b""
        """Of a line whose end is not read yet."""

    def write(self, chunk: bytes) -> None:
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            self._screen.write_line(self._label, line)
        if len(self._rest) > LONGEST_LINE:
            self._write_rest()

    def flush(self, *, is_end: bool = False) -> None:
        if is_end and self._rest:
            self._write_rest()
        self._screen.flush()

    def say(self, line: str) -> None:
        self._screen.say(line)

    def state(self, text: str) -> None:
        """Not shown: one status line cannot show several logs."""

    def _write_rest(self) -> None:
        rest, self._rest = self._rest, b""
        self._screen.write_line(self._label, rest)
