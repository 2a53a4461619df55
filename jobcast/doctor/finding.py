"""What a check found, and the time that a check may take."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

LIMIT_SECONDS = 8.0
"""Of each check. They run at the same time, so that all of them end within ten seconds even if one hangs."""


class Verdict(StrEnum):
    OK = "ok"
    WARNING = "warning"
    """It works, but needs attention."""
    BROKEN = "broken"
    UNKNOWN = "unknown"
    """This account may not look, or could not."""


class Finding(NamedTuple):
    verdict: Verdict
    about: str
    """What was checked."""
    text: str
    todo: str = ""
    """What to do about it."""

    @property
    def line(self) -> str:
        return f"{self.text}: {self.todo}" if self.todo else self.text

    @property
    def is_late(self) -> bool:
        """The check gave no answer in time: it may hang for much longer."""
        return self.text.startswith(_LATE)


_LATE = "no answer within "
Check = Callable[[], Awaitable[Sequence[Finding]]]
Explain = Callable[[Exception], tuple[str, str]]
"""Turns what a check raised into what happened and what to do."""


def ok(about: str, text: str) -> Finding:
    return Finding(Verdict.OK, about, text)


def warning(about: str, text: str, todo: str = "") -> Finding:
    return Finding(Verdict.WARNING, about, text, todo)


def broken(about: str, text: str, todo: str = "") -> Finding:
    return Finding(Verdict.BROKEN, about, text, todo)


def unknown(about: str, text: str, todo: str = "") -> Finding:
    return Finding(Verdict.UNKNOWN, about, text, todo)


async def examined(checks: Mapping[str, Check], explain: Explain, limit: float = LIMIT_SECONDS) -> list[Finding]:
    """What all of them found, in their order. One that hangs or fails is a finding, and does not affect the others."""
    found = await asyncio.gather(*(_examined(about, check, explain, limit) for about, check in checks.items()))
    return [finding for findings in found for finding in findings]


async def _examined(about: str, check: Check, explain: Explain, limit: float) -> Sequence[Finding]:
    try:
        async with asyncio.timeout(limit):
            return await check()
    except TimeoutError:
        return [broken(about, f"{_LATE}{limit:g} s")]
    except Exception as error:
        text, todo = explain(error)
        return [broken(about, text, todo)]
