"""Standard output and standard error: JSON lines for programs, text made harmless for people."""

import asyncio
import os
import re
import select
import sys
import unicodedata
from typing import NoReturn

import msgspec
from rich.console import Console
from rich.text import Text

POLL_SECONDS = 0.5
"""How soon a command notices that nobody reads it any more, though it has nothing to write."""
_SEQUENCES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # colours, cursor movements
    r"|\x1b\][^\x07\x1b]*(\x07|\x1b\\)"  # titles, links
    r"|\x1b[@-Z\\-_]"
)
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Control, format (which turn the writing direction), surrogates, separators of lines."""


class _Console(Console):
    def on_broken_pipe(self) -> NoReturn:
        raise BrokenPipeError  # rich would end with code 1; for us it is the reader's good right


def console() -> Console:
    """Standard output for people."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that knows ASCII alone
    return _Console(highlight=False, markup=False, emoji=False)


def print_line(out: Console, line: Text) -> None:
    """One line: at a terminal cut at its edge, elsewhere whole."""
    if out.is_terminal:
        out.print(line, no_wrap=True, overflow="ellipsis", crop=True)
    else:
        out.print(line, soft_wrap=True)


def complain(line: str) -> None:
    """One line on standard error."""
    print(f"jobcast: {harmless(line)}", file=sys.stderr, flush=True)  # noqa: T201 - the command's own voice


def write_json(data: bytes) -> None:
    """One JSON value as one line, at once."""
    if b"\n" in data or b"\r" in data:
        data = msgspec.json.format(data, indent=-1)
    sys.stdout.buffer.write(data + b"\n")
    sys.stdout.buffer.flush()


def harmless(text: str) -> str:
    """The text without anything that would move a terminal: escape sequences go, other controls are shown as escapes."""
    return "".join(map(_shown, _SEQUENCES.sub("", text)))


def harmless_lines(text: str) -> list[str]:
    """The same for a text of several lines, whose tabs and ends of lines are kept."""
    return [harmless(line.expandtabs(8)) for line in text.replace("\r\n", "\n").split("\n")]


def _shown(character: str) -> str:
    if unicodedata.category(character) not in _HIDDEN:
        return character
    return character.encode("unicode_escape").decode("ascii")


async def nobody_reads() -> None:
    """Returns when the other end of standard output is gone; where that cannot be known, never."""
    try:
        poller = select.poll()
        poller.register(sys.stdout.fileno(), 0)
    except (AttributeError, OSError, ValueError):  # no poll on this system, or no file behind standard output
        await asyncio.Event().wait()
        return
    while not poller.poll(0):
        await asyncio.sleep(POLL_SECONDS)


def silence() -> None:
    """Have the interpreter's own last flush go nowhere, so that it does not complain of a broken pipe."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
