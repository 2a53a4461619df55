"""Reads the streams for one consumer of a group: at once, or as soon as there is something."""

from collections.abc import Iterable

import redis

from jobcast.keys import Keys
from worker.group import Entry, Group, Places
from worker.scripts import Call
from worker.wakeup import Wakeup

BATCH = 64
"""Entries in one reading: enough to share its cost, few enough that the first does not wait for the last."""


class Reader:
    """Of one thread. Raises redis errors as they come; call `wakeup.forget` after each."""

    def __init__(
        self, client: "redis.Redis", keys: Keys, group: Group, unwanted: list[str], longest_wait: float
    ) -> None:
        """Entries of an `unwanted` status are acknowledged unread. `longest_wait` is in seconds."""
        self._group = group
        self._unwanted = unwanted
        self.wakeup = Wakeup(client, (keys.events, keys.replays), longest_wait)
        self._behind: Places | None = None
        """Nothing is unread up to here; None while there may be."""
        self._is_replays_turn = False

    @property
    def may_have_more(self) -> bool:
        """Whether there may be something to read at once."""
        return self._behind is None and not self.wakeup.is_asked

    def start_over(self) -> None:
        self._behind = None

    def reading(self, room: int, moved: Iterable[str]) -> Call:
        """Reads new entries for so much room, and those that follow in the evaluations `moved`. The answer is for `read`."""
        self._is_replays_turn = not self._is_replays_turn
        count = min(BATCH, room)
        return self._group.reading(count, moved, self._unwanted, is_replays_turn=self._is_replays_turn)

    def read(self, reply: object, room: int) -> list[Entry]:
        """The answer to `reading` with the same room."""
        found = self._group.read(reply)
        if room:
            self._behind = found.behind
        return found.entries

    def ask(self, room: int) -> bool:
        """Have Redis answer as soon as there is something. False where there may be something already."""
        if not self.wakeup.is_asked:
            if self._behind is None:
                return False
            self.wakeup.ask(self._behind, self._group.reading(min(BATCH, room), unwanted=self._unwanted))
        return True

    def wait(self, seconds: float) -> list[Entry] | None:
        """Until there is an answer or `wake` is called. None when an answer was lost with its connection: what it gave is
        ours all the same."""
        was_asked = self.wakeup.is_asked
        answer = self.wakeup.wait(seconds)
        if answer is not None:
            return self.read(answer, BATCH)
        if was_asked and not self.wakeup.is_asked:
            self._behind = None
            return None
        return []
