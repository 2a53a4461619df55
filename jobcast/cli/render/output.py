"""Standard output and standard error: JSON lines for programs, escaped text for people."""

import asyncio
import codecs
import os
import re
import select
import sys
import unicodedata
from collections.abc import Coroutine
from typing import Any, NoReturn

import msgspec
from rich.console import Console
from rich.text import Text

POLL_SECONDS = 0.5
"""How soon a command that writes nothing notices that its output was closed."""
LONGEST_LINE = 64 * 1024
"""A longer line is shown in pieces."""
LONGEST_SEQUENCE = 4096
"""A link in a terminal may be about 2,000 characters long."""
_SEQUENCES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # colours, cursor movements
    r"|\x1b\][^\x07\x1b]*(\x07|\x1b\\)"  # titles, links
    r"|\x1b[@-Z\\-_]"
)
_OPEN = re.compile(r"(\r|\x1b(\[[0-?]*[ -/]*|\][^\x07\x1b]*\x1b?)?)\Z")
"""What may still become a sequence, or an end of line."""
_NOT_PLAIN = re.compile(r"[^ -~]")
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Control, format (which turn the writing direction), surrogates, separators of lines."""


class _Console(Console):
    def on_broken_pipe(self) -> NoReturn:
        raise BrokenPipeError  # rich would end with code 1; closing our output is no error


def console() -> Console:
    """Standard output for people."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal with ASCII only
    return _Console(highlight=False, markup=False, emoji=False)


def print_line(out: Console, line: Text) -> None:
    """One line: cut at the edge of a terminal, elsewhere whole."""
    if out.is_terminal:
        out.print(line, no_wrap=True, overflow="ellipsis", crop=True)
    else:
        out.file.write(line.plain + "\n")  # ten times faster than rich: there may be thousands
        out.file.flush()


def complain(line: str) -> None:
    """One line on standard error."""
    print(f"jobcast: {escape(line)}", file=sys.stderr, flush=True)  # noqa: T201 - messages to the user


def write_json(data: bytes) -> None:
    """One JSON value as one line, at once."""
    if b"\n" in data or b"\r" in data:
        data = msgspec.json.format(data, indent=-1)
    sys.stdout.buffer.write(data + b"\n")
    sys.stdout.buffer.flush()


def print_id(eval_id: str) -> None:
    """An id alone on its line, for scripts."""
    write_json(eval_id.encode(errors="surrogateescape") if eval_id.isprintable() else escape(eval_id).encode())


def escape(text: str) -> str:
    """The text without control of the terminal: escape sequences are removed, other control characters shown as escapes."""
    if text.isprintable():
        return text
    return _NOT_PLAIN.sub(lambda found: _shown(found[0]), _SEQUENCES.sub("", text))


def escape_lines(text: str) -> list[str]:
    """The same for a text of several lines; tabs are expanded."""
    return [_line(line) for line in text.replace("\r\n", "\n").split("\n")]


class EscapedLog:
    """Escapes a log chunk by chunk, in bounded memory."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""
        """Of a line whose end is not read yet."""

    def feed(self, chunk: bytes, is_last: bool = False) -> str:
        """The text that can be shown now."""
        lines = (self._rest + self._decoder.decode(chunk, is_last)).split("\n")
        self._rest = "" if is_last else lines.pop()
        shown = [_line(line.removesuffix("\r")) for line in lines]
        if len(self._rest) > LONGEST_LINE:
            cut = _before_open_sequence(self._rest)
            shown.append(_line(self._rest[:cut]))
            self._rest = self._rest[cut:]
        elif not is_last:
            shown.append("")
        return "\n".join(shown)


def _line(text: str) -> str:
    # Escape first: removed characters must not move the tab stops.
    return "\t".join(map(escape, text.split("\t"))).expandtabs(8)


def _before_open_sequence(text: str) -> int:
    """Where to cut a text without cutting an escape sequence or a line end in two."""
    found = _OPEN.search(text, max(len(text) - LONGEST_SEQUENCE, 0))
    return found.start() if found else len(text)


def _shown(character: str) -> str:
    if unicodedata.category(character) not in _HIDDEN:
        return character
    return character.encode("unicode_escape").decode("ascii")


async def while_read(show: Coroutine[Any, Any, None]) -> None:
    """Run it to its end. Raises BrokenPipeError when the reader of our output closes it."""
    showing = asyncio.create_task(show, name="show")
    unread = asyncio.create_task(_output_closed(), name="output closed")
    try:
        await asyncio.wait({showing, unread}, return_when=asyncio.FIRST_COMPLETED)
        if unread.done():
            raise BrokenPipeError
        showing.result()
    finally:
        for task in (showing, unread):
            task.cancel()
        await asyncio.wait({showing, unread})


async def _output_closed() -> None:
    """Returns when the other end of standard output is closed; never if that cannot be detected."""
    try:
        poller = select.poll()
        poller.register(sys.stdout.fileno(), 0)
    except (AttributeError, OSError, ValueError):  # no poll on this system, or no file behind standard output
        await asyncio.Event().wait()
        return
    while not poller.poll(0):
        await asyncio.sleep(POLL_SECONDS)


def silence() -> None:
    """Discard the interpreter's last flush, so that it does not report a broken pipe."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
