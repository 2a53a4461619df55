"""Dead letters for people and programs. Their text comes from other programs, and is escaped."""

from datetime import UTC, datetime

import msgspec
from rich.console import Console
from rich.text import Text

from jobcast.cli.render.event import first_line, line
from jobcast.cli.render.output import escape, escape_lines
from jobcast.cli.render.record import print_facts
from jobcast.cli.render.times import TimeFormat, rfc3339, time_format
from jobcast.client.dead_letter import DeadLetter
from jobcast.wire import UNREADABLE

NO_EVENT = "not an event"


def dead_letter_line(letter: DeadLetter, show_time: TimeFormat = rfc3339) -> Text:
    """The dead letter in one line: id, time, handler, event, tries, error."""
    event = letter.event
    text = Text()
    text.append(f"{letter.entry_id:16}  ")
    text.append(show_time(letter.written, ""), "dim")
    text.append(f"  {escape(letter.handler) or '-':24}  ")
    text.append(f"{event.status.value:9}  {escape(event.eval_id)}" if event is not None else NO_EVENT)
    text.append(f"  {letter.tries} tries" if letter.tries != 1 else "  1 try", "dim")
    text.append(f"  {first_line(letter.reason)}")
    return text


def print_dead_letter(out: Console, letter: DeadLetter) -> None:
    """The facts, and the traceback last."""
    event = letter.event
    found = [
        ("id", letter.entry_id),
        ("written", time_format(out)(letter.written, "")),
        ("handler", letter.handler or "none: no handler could read the entry"),
        ("entry", letter.entry),
        ("tries", str(letter.tries)),
        ("error", letter.reason),
        ("event", event.id if event is not None else f"{NO_EVENT}: {first_line(letter.body.decode(errors='replace'))}"),
    ]
    print_facts(out, [(name, value) for name, value in found if value])
    if event is not None:
        out.print(Text.assemble("  ", line(event, time_format(out))), soft_wrap=True)
    if letter.traceback:
        out.print(Text("traceback", "dim"))
        for one in escape_lines(letter.traceback.rstrip("\n")):
            out.print(Text("  " + one), soft_wrap=not out.is_terminal)


def dead_letter_json(letter: DeadLetter) -> bytes:
    """The dead letter with its event as published; a body that is not JSON as a string."""
    fields = {name: getattr(letter, name) for name in ("entry", "handler", "reason", "traceback", "tries")}
    return msgspec.json.encode(
        {"id": letter.entry_id, "time": _time(letter.written), **fields, "event": _raw(letter.body)}
    )


def _raw(body: bytes) -> msgspec.Raw | str:
    try:
        msgspec.json.decode(body)
    except UNREADABLE:
        return body.decode(errors="replace")
    return msgspec.Raw(body)


def _time(seconds: float) -> str | None:
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat()
    except (OverflowError, OSError, ValueError):  # an id that is not a time
        return None
