"""Which events were dealt with already: a stream brings each at least once."""

from collections import OrderedDict

REMEMBERED = 100_000
"""Ids, about 150 bytes each. Entries come again within minutes: after a lost acknowledgement, a take-over, a Redis that forgot."""


class Deduplicator:
    """Remembers the ids of the events that were dealt with, the latest `remember` of them, as long as the process lives.

        seen = Deduplicator()
        for entry in jobcast.stream("scoring"):
            if seen.is_new(entry.event.id):
                score(entry.event)
                seen.done(entry.event.id)

    Whoever must not work twice even after a crash of its own writes the id where the work's result goes, in the same
    transaction. For one thread, or one event loop.
    """

    def __init__(self, remember: int = REMEMBERED) -> None:
        if remember < 1:
            raise ValueError(f"remember: {remember} is less than one id")
        self._remember = remember
        self._ids: OrderedDict[str, None] = OrderedDict()

    def is_new(self, event_id: str) -> bool:
        """Whether it was not dealt with yet, as far as this remembers."""
        return event_id not in self._ids

    def done(self, event_id: str) -> None:
        """It was dealt with. Not before: an event whose work failed is to come again."""
        self._ids[event_id] = None
        self._ids.move_to_end(event_id)
        if len(self._ids) > self._remember:
            self._ids.popitem(last=False)
