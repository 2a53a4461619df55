"""Times and positions in a stream, as people write them. Pure."""

import re
from datetime import datetime
from typing import NamedTuple

FORMS = "use a duration (2h, 90s, 1d12h), a time (2026-11-20T10:00:00Z) or an entry id (0 is the first)"
_AGO = re.compile(r"(?=[0-9])(?:([0-9]{1,9})d)?(?:([0-9]{1,9})h)?(?:([0-9]{1,9})m)?(?:([0-9]{1,9})s)?")
_UNITS = (86_400, 3_600, 60, 1)
# RFC 3339, which has a time zone: a time without one would be ambiguous.
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})")
_ENTRY = re.compile(r"[0-9]{1,20}(-[0-9]{1,20})?")
_UNIX_SECONDS = re.compile(r"[0-9]{9,11}")
_MOST = 2**64 - 1


class When(NamedTuple):
    """A duration before now, a time, or an entry."""

    seconds: float
    """Before now, or since 1970."""
    is_ago: bool
    entry: str = ""
    """An entry id; if it is not empty, the other fields are not used."""

    def place(self, now: float) -> str:
        """The position for a range, which begins with the first entry of that millisecond and ends with the last.

        `now` is Unix seconds of Redis' clock, which makes the entries' ids.
        """
        return self.entry or str(self._millis(now))

    def before(self, now: float) -> str:
        """The entry after which to read."""
        millis = self._millis(now)
        return self.entry or (f"{millis - 1}-{_MOST}" if millis else "0")

    def _millis(self, now: float) -> int:
        return max(round((now - self.seconds if self.is_ago else self.seconds) * 1000), 0)


def when(text: str) -> When:
    """Raises ValueError for any other form."""
    if (ago := duration(text)) is not None:
        return When(ago, True)
    if _UNIX_SECONDS.fullmatch(text):
        raise ValueError(f"{text!r} looks like Unix seconds, but entry ids are milliseconds; {FORMS}")
    if _ENTRY.fullmatch(text) and all(int(part) <= _MOST for part in text.split("-")):
        return When(0.0, False, text)
    if _TIME.fullmatch(text):
        try:
            return When(datetime.fromisoformat(text.upper().replace(" ", "T")).timestamp(), False)
        except ValueError:
            pass
    raise ValueError(f"{text!r} is not a time; {FORMS}")


def duration(text: str) -> float | None:
    """The seconds of `1d12h`, `2h`, `90s`; None for another form."""
    found = _AGO.fullmatch(text)
    if found is None:
        return None
    return float(sum(int(count or 0) * unit for count, unit in zip(found.groups(), _UNITS, strict=True)))


def is_backwards(first: str, last: str) -> bool:
    """Whether a range between these positions is always empty."""
    return _order(first, 0) > _order(last, _MOST)


def _order(place: str, usual: int) -> tuple[int, int]:
    millis, _, number = place.partition("-")
    return int(millis), int(number) if number else usual


def after(entry_id: str) -> str:
    """The first position after an entry."""
    millis, number = _order(entry_id, 0)
    return f"{millis}-{number + 1}" if number < _MOST else f"{millis + 1}-0"
