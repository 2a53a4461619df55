"""docs/demo.svg, made from what `jobcast demo` writes to a terminal.

python docs/generators/picture.py
"""

import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.text import Text

PICTURE = Path(__file__).resolve().parents[1] / "demo.svg"
COLUMNS, ROWS = 140, 40
CONTROL = re.compile(r"\x1b\[\??(\d*)([A-LN-Za-ln-z])|(\r\n|\r|\n)|((?:\x1b\[[\d;]*m|[^\x1b\r\n])+)")
"""A control sequence other than a colour, a line's end, or text with its colours."""


def main() -> int:
    picture(screen(written_by_the_demo()))
    return 0


def written_by_the_demo() -> str:
    """All that it writes when its output is a terminal. Raises CalledProcessError when it fails."""
    terminal, its_end = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(COLUMNS), "LINES": str(ROWS), "TERM": "xterm-256color"}
    command = [str(Path(sys.executable).with_name("jobcast")), "demo"]
    process = subprocess.Popen(command, stdout=its_end, stderr=its_end, env=environment)
    os.close(its_end)
    written = b"".join(_chunks(terminal))
    os.close(terminal)
    if code := process.wait():
        raise subprocess.CalledProcessError(code, command, written)
    return written.decode()


def _chunks(terminal: int) -> Iterator[bytes]:
    while True:
        try:
            chunk = os.read(terminal, 65536)
        except OSError:  # Linux says EIO when the other side is closed
            return
        yield chunk


def screen(written: str) -> list[str]:
    """The lines that stand on the screen in the end. Knows the few control sequences that rich's Live uses."""
    lines, row = [""], 0
    for count, control, end, text in CONTROL.findall(written):
        if control == "A":
            row = max(0, row - int(count or 1))
        elif control == "K":
            lines[row] = ""
        elif end in ("\n", "\r\n"):
            row += 1
            if row == len(lines):
                lines.append("")
        elif text:
            lines[row] += text
    return lines


def picture(lines: list[str]) -> None:
    with open(os.devnull, "w") as nowhere:
        console = Console(file=nowhere, record=True, width=COLUMNS, force_terminal=True, color_system="truecolor")
        for line in ["$ make demo", *lines]:
            console.print(Text.from_ansi(line), soft_wrap=True)
    svg = console.export_svg(title="make demo", unique_id="demo")
    # Without the fonts, which a browser would fetch from elsewhere.
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    # Some renderers drop spaces at the beginning of a text, also those that do not break.
    svg = svg.replace("<svg ", '<svg xml:space="preserve" ', 1)
    PICTURE.write_text("\n".join(line.rstrip() for line in svg.splitlines()) + "\n")


if __name__ == "__main__":
    sys.exit(main())
