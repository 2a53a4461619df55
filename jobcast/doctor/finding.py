"""What a check found, and the time that a check may take."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

LIMIT_SECONDS = 8.0
"""Of each check; they run beside each other, so that all of it ends within ten seconds whatever hangs."""


class Verdict(StrEnum):
    OK = "ok"
    WARNING = "warning"
    """It works, and something is to be seen to."""
    BROKEN = "broken"
    UNKNOWN = "unknown"
    """We are not allowed to look, or could not."""


class Finding(NamedTuple):
    verdict: Verdict
    about: str
    """Which of the checks."""
    text: str
    todo: str = ""
    """What to do about it."""

    @property
    def is_late(self) -> bool:
        """Something hangs, perhaps for longer than anybody waits."""
        return self.text.startswith(_LATE)


_LATE = "no answer within "
Check = Callable[[], Awaitable[Sequence[Finding]]]
Explain = Callable[[Exception], tuple[str, str]]
"""Of what a check raised, what happened and what to do."""


def ok(about: str, text: str) -> Finding:
    return Finding(Verdict.OK, about, text)


def warning(about: str, text: str, todo: str = "") -> Finding:
    return Finding(Verdict.WARNING, about, text, todo)


def broken(about: str, text: str, todo: str = "") -> Finding:
    return Finding(Verdict.BROKEN, about, text, todo)


def unknown(about: str, text: str, todo: str = "") -> Finding:
    return Finding(Verdict.UNKNOWN, about, text, todo)


async def examined(checks: Mapping[str, Check], explain: Explain, limit: float = LIMIT_SECONDS) -> list[Finding]:
    """What all of them found, in their order. One that hangs or fails is a finding, and costs the others nothing."""
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
