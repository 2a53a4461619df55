"""Remembers which events were handled: a stream delivers each at least once."""

from collections import OrderedDict

REMEMBERED = 100_000
"""Ids, about 150 bytes each. Entries come again within minutes: after a lost acknowledgement, a claim, or data loss in Redis."""


class Deduplicator:
    """Remembers the ids of the last `remember` handled events, as long as the process lives.

        seen = Deduplicator()
        for entry in jobcast.stream("scoring"):
            if seen.is_new(entry.event.id):
                score(entry.event)
                seen.done(entry.event.id)

    To handle no event twice even after a crash, store the id together with the result, in the same transaction. Not
    thread-safe.
    """

    def __init__(self, remember: int = REMEMBERED) -> None:
        if remember < 1:
            raise ValueError(f"remember={remember}: it must be at least 1")
        self._remember = remember
        self._ids: OrderedDict[str, None] = OrderedDict()

    def is_new(self, event_id: str) -> bool:
        """Whether the event was not handled yet, as far as this remembers."""
        return event_id not in self._ids

    def done(self, event_id: str) -> None:
        """Mark the event as handled. Call it after the work succeeded, so that a failed event is handled again."""
        self._ids[event_id] = None
        self._ids.move_to_end(event_id)
        if len(self._ids) > self._remember:
            self._ids.popitem(last=False)
