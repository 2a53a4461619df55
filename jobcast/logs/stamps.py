"""Takes off the time that the kubelet writes before each line of a log, and keeps track of where the log was read to. Pure.

With `timestamps=true` each line of a container begins with its time. What follows from that:

- A line without a time is an error message of the kubelet in place of the log, or after a part of it.
- A read that broke off continues after the last line that was read: see Mark and Continuation.
- The last line of a log, requested once more, proves that the log was read to its end: see `Ending`.

A container runtime splits a line of more than 16 KiB; only its first part has a time in the log, but the kubelet counts the parts as
lines when it is asked for the last ones.
"""

import re
from datetime import datetime
from enum import Enum
from typing import NamedTuple
from zlib import crc32

_TIME = rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)"
_LONGEST = 36
"""Of a time and the space after it: `2026-11-20T10:00:00.123456789+00:00 `."""
_STAMP = re.compile(_TIME + b" ")
_STAMPED_LINE = re.compile(rb"\n" + _TIME + b" ")
_ANY_TIME = rb"[0-9T:.Z+-]{20,35} "
"""Twice as fast as the exact form, and no error message begins like this."""
_LINE = re.compile(rb"\n" + _ANY_TIME)
_COMPLAINT = re.compile(rb"\n(?!" + _ANY_TIME + rb"|\Z)")
_SHAPE = b"0000-00-00T00:00:00.000000000"
_DIGIT = re.compile(rb"\d")
TAIL_BYTES = 64 * 1024
"""The end of a log that is kept for its proof: two parts of a long line, and as much before them."""


class Mark(NamedTuple):
    """Where a log was read to: its last lines, those that have the time of the last one."""

    time: bytes = b""
    """RFC 3339, of the first of these lines; empty before the first line."""
    size: int = 0
    """Bytes of these lines, with their times."""
    crc: int = 0

    @property
    def since(self) -> str:
        """The time in whole seconds, which is what the API server takes."""
        text = self.time.decode()
        return text[:19] + text[19:].lstrip(".0123456789")


class Differs(Exception):
    """The log that is read again is not the one that was read before."""


class Ending(Enum):
    """What the last lines of a log, requested once more, say of what was read."""

    SAME = "the log was read to its end"
    SIMILAR = "the log may have been read to its end: it repeats the same bytes"
    OTHER = "the log was not read to its end"


class Stamped:
    """Feed it a log's bytes with the times; it returns those without."""

    def __init__(self) -> None:
        self.first = ""
        """The time of the first line; empty while there is none."""
        self.complaint = False
        """The kubelet wrote an error message in place of a line. What follows is ignored."""
        self.is_cut = False
        """The answer ended within a time."""
        self.mark = Mark()
        self.size = 0
        """Bytes, with the times."""
        self._tail = b""
        self._held = b""
        """The beginning of a line, too short to tell whether it has a time."""
        self._begins_line = True

    def feed(self, chunk: bytes) -> bytes:
        if self.complaint:
            return b""
        data = self._held + chunk if self._held else chunk
        self._held = b""
        if self._begins_line and data and _STAMP.match(data) is None:
            self._hold(data)
            return b""
        start = data.rfind(b"\n") + 1
        held = b""
        if start and len(data) - start < _LONGEST and _STAMP.match(data, start) is None:
            data, held = data[:start], data[start:]
        found, lines = _LINE.subn(b"\n", data)
        if lines != data.count(b"\n") - data.endswith(b"\n"):
            wrong = _COMPLAINT.search(data)
            assert wrong is not None
            data, self.complaint = data[: wrong.start() + 1], True
            found, held = _LINE.sub(b"\n", data), b""
        if self._begins_line and data:
            found = found[_end_of_time(data, 0) + 1 :]
        self._advance(data)
        if held:
            self._hold(held)
        return found

    def end(self) -> None:
        """The answer ends here. The log may continue in another one."""
        held, self._held = self._held, b""
        self.is_cut = bool(held) and _may_be_time(held)
        self.complaint = self.complaint or (bool(held) and not self.is_cut)

    def begin(self, *, is_new_line: bool = False) -> None:
        """The log continues in another answer."""
        self.complaint = False
        self._begins_line = self._begins_line or is_new_line

    def compare(self, last: "Stamped") -> Ending:
        """Whether this log ends with `last`: the log's last two lines, or parts of lines, read from their beginning."""
        mine, its = self.mark, last.mark
        if self.is_cut or last.is_cut:
            return Ending.OTHER
        if mine == its:
            # All that was requested has one time: there may be more lines like these.
            many = its.size == last.size and last._tail.count(b"\n", 0, -1) > 0
            return Ending.SIMILAR if many else Ending.SAME
        text = last._tail[_end_of_time(last._tail, 0) + 1 :]
        if not text or not its.time or last.size > TAIL_BYTES or not self._tail.endswith(text):
            return Ending.OTHER
        if mine.time == its.time:
            # Lines, or parts of a long line, to which a coarse clock gave one time: there may be more like these.
            return Ending.SIMILAR
        # The end of a long line, whose parts have times of their own.
        at = len(self._tail) - len(text)
        if self._tail.endswith(mine.time + b" ", 0, at):
            return Ending.OTHER
        return Ending.SAME if self._tail.find(text) == at else Ending.SIMILAR

    def _hold(self, data: bytes) -> None:
        """The beginning of a line that has no time yet."""
        if len(data) < _LONGEST and b"\n" not in data:
            self._held = data
        else:
            self.complaint = True

    def _advance(self, data: bytes) -> None:
        """These bytes were taken: they end within a line or at the end of one."""
        if not data:
            return
        start = data.rfind(b"\n", 0, -1) + 1
        if start or self._begins_line:
            time = data[start : _end_of_time(data, start)]
            if not self.first:
                self.first = data[: _end_of_time(data, 0)].decode()
            if time != self.mark.time:
                start = 0 if self._begins_line and data.startswith(time) else data.find(b"\n" + time) + 1
                self.mark = Mark(time, len(data) - start, crc32(data[start:]))
                self._keep(data)
                return
        self.mark = Mark(self.mark.time, self.mark.size + len(data), crc32(data, self.mark.crc))
        self._keep(data)

    def _keep(self, data: bytes) -> None:
        self.size += len(data)
        self._begins_line = data.endswith(b"\n")
        self._tail = data[-TAIL_BYTES:] if len(data) >= TAIL_BYTES else (self._tail + data)[-TAIL_BYTES:]


class Continuation:
    """Feed it the log again, from about the last second that was read; it returns what follows the mark.

    Raises Differs where the marked lines are missing; with `bridges` it returns the later lines instead.
    """

    def __init__(self, mark: Mark, *, bridges: bool = False) -> None:
        self._mark = mark
        self._bridges = bridges
        self._held: bytes | None = None
        """The end of what was searched; None at the beginning."""
        self._left: int | None = None
        """Bytes of the mark that are not yet here; None before its first line is found."""
        self._crc = 0
        self._times = 0
        """Lines with a time that were searched."""
        self._is_missing = False
        """There are later lines than the marked ones."""
        self.has_gap = False
        """The marked lines are missing, and later ones were returned."""

    @property
    def is_past(self) -> bool:
        """What was read before is here again, to its last byte."""
        return self.has_gap or self._left == 0

    @property
    def is_complaint(self) -> bool:
        """The answer is an error message of the kubelet."""
        return self._left is None and not self._times and bool(self._held) and not _may_be_time(self._held or b"")

    def feed(self, chunk: bytes) -> bytes:
        if self._left is None:
            chunk = self._search(chunk)
        if self.has_gap or not self._left:
            return chunk
        known, new = chunk[: self._left], chunk[self._left :]
        self._crc = crc32(known, self._crc)
        self._left -= len(known)
        if not self._left and self._crc != self._mark.crc:
            raise Differs
        return new

    def end(self) -> None:
        """The answer ends here."""
        if not self.is_past and self._is_missing:
            raise Differs

    def _search(self, chunk: bytes) -> bytes:
        """What begins with the mark; empty while it is not found."""
        # The answer begins with a line, or with the rest of a long one. After that only a line end is followed by a time.
        data = (b"\n" if self._held is None else self._held) + chunk
        if (start := data.find(b"\n" + self._mark.time + b" ")) >= 0:
            self._left = self._mark.size
            return data[start + 1 :]
        self._held = data[-_LONGEST:] if len(data) > _LONGEST else data
        lines = [one.start() + 1 for one in _STAMPED_LINE.finditer(data)]
        self._times += len(lines)
        later = next((at for at in lines if _is_later(data, at, self._mark.time)), None)
        if later is None:
            return b""
        self._is_missing = True
        if not self._bridges:
            return b""
        self._left, self.has_gap = 0, True
        return data[later:]


def _may_be_time(data: bytes) -> bool:
    """Whether this is the beginning of a line's time."""
    shape = _DIGIT.sub(b"0", data.lstrip(b"\n"))
    return _SHAPE.startswith(shape) or shape.startswith(_SHAPE)


def _end_of_time(data: bytes, start: int) -> int:
    """The position of the space after the time."""
    return data.find(b" ", start, start + _LONGEST)


def _is_later(data: bytes, start: int, than: bytes) -> bool:
    return _moment(data[start : _end_of_time(data, start)]) > _moment(than)


def _moment(time: bytes) -> tuple[float, str]:
    """Comparable with others: the node's offset from UTC may change, and Python's times have no nanoseconds."""
    text = time.decode()
    zone = text[19:].lstrip(".0123456789")
    fraction = text[19 : len(text) - len(zone)].lstrip(".").ljust(9, "0")
    return datetime.fromisoformat(text[:19] + zone).timestamp(), fraction
