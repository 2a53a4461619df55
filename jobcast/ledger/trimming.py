"""Trims our streams by age and by length, and never beyond what a living consumer group still needs; and the index.

There is no other limit: a living group that lags for ever has the stream grow until Redis is full. Then Redis refuses, which
every part says, and nothing is lost: what is to be published waits where it is. `stream_lag` warns of it long before.
"""

from collections.abc import Callable
from importlib.resources import files

from jobcast.ledger.groups import DEAD_SECONDS
from jobcast.ledger.index import trim_index
from jobcast.ledger.ledger import Ledger

SCRIPT = files("jobcast.ledger").joinpath("trim.lua").read_text()
MOST = 10_000
"""Entries that go in one call: 3 to 7 ms for which Redis does nothing else, measured with events of 1 and of 64 KB."""


class Trimming:
    """Keep it from one trimming to the next: it publishes of a dead group once, and once more when the group is back.

    `died` and `revived` are called with the group's name.
    """

    def __init__(
        self, *, max_age: float, max_length: int, died: Callable[[str], None], revived: Callable[[str], None]
    ) -> None:
        self.dead: frozenset[str] = frozenset()
        """The groups that nobody reads for any more, and that nothing is kept for."""
        self._max_age = max_age
        self._max_length = max_length
        self._died = died
        self._revived = revived

    async def trim(self, ledger: Ledger) -> None:
        """All that may go. Waits while Redis is away. Raises LedgerError."""
        dead = await self._trim(ledger, ledger.keys.events) | await self._trim(ledger, ledger.keys.replays)
        for group in sorted(dead - self.dead):
            self._died(group)
        for group in sorted(self.dead - dead):
            self._revived(group)
        self.dead = dead
        # A dead letter goes by its age even if none ever follows it.
        seconds, _ = await ledger.run("TIME")
        oldest = int(max(float(seconds) - self._max_age, 0) * 1000)
        await ledger.run("XTRIM", ledger.keys.dead, "MINID", f"{oldest}-0")
        await trim_index(ledger, newest=float(seconds) - ledger.retention)

    async def _trim(self, ledger: Ledger, stream: str) -> frozenset[str]:
        """Returns the names of the groups that are dead."""
        arguments = (self._max_age, self._max_length, int(DEAD_SECONDS * 1000), MOST)
        while True:
            count, *dead = await ledger.run("EVAL", SCRIPT, 1, stream, *arguments)
            if count <= MOST // 2:  # with a part of a node more it would have gone beyond
                return frozenset(name.decode(errors="replace") for name in dead)
