"""Trims our streams by age and by length, but never what a living consumer group still needs; and the index.

There is no other limit: if a living group lags for ever, the stream grows until Redis is full. Then Redis rejects writes, which
every process reports; nothing is lost, and publishing waits. The metric `stream_lag` warns long before.
"""

from collections.abc import Callable
from importlib.resources import files

from jobcast.ledger.groups import DEAD_SECONDS
from jobcast.ledger.index import trim_index
from jobcast.ledger.ledger import Ledger

SCRIPT = files("jobcast.ledger").joinpath("trim.lua").read_text()
MOST = 10_000
"""Entries that one call removes: 3 to 7 ms for which Redis does nothing else, measured with events of 1 and of 64 KB."""


class Trimming:
    """Keep one for all trimmings: `died` and `revived` are called once per change, with the group's name."""

    def __init__(
        self, *, max_age: float, max_length: int, died: Callable[[str], None], revived: Callable[[str], None]
    ) -> None:
        self.dead: frozenset[str] = frozenset()
        """The groups without a living consumer; nothing is kept for them."""
        self._max_age = max_age
        self._max_length = max_length
        self._died = died
        self._revived = revived

    async def trim(self, ledger: Ledger) -> None:
        """Remove all that may go. Waits while Redis is unreachable. Raises LedgerError."""
        dead = await self._trim(ledger, ledger.keys.events) | await self._trim(ledger, ledger.keys.replays)
        for group in sorted(dead - self.dead):
            self._died(group)
        for group in sorted(self.dead - dead):
            self._revived(group)
        self.dead = dead
        # Dead letters are trimmed by age, also when no new one arrives.
        seconds, _ = await ledger.run("TIME")
        oldest = int(max(float(seconds) - self._max_age, 0) * 1000)
        await ledger.run("XTRIM", ledger.keys.dead, "MINID", f"{oldest}-0")
        await trim_index(ledger, newest=float(seconds) - ledger.retention)

    async def _trim(self, ledger: Ledger, stream: str) -> frozenset[str]:
        """Returns the names of the dead groups."""
        arguments = (self._max_age, self._max_length, int(DEAD_SECONDS * 1000), MOST)
        while True:
            count, *dead = await ledger.run("EVAL", SCRIPT, 1, stream, *arguments)
            if count <= MOST // 2:  # it removes whole nodes, so a full call may stop well below MOST
                return frozenset(name.decode(errors="replace") for name in dead)
