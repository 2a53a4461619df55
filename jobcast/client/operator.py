"""The client for operators: dead letters, replays, lag of consumer groups. Only for asyncio, as the command line needs it."""

from collections import Counter
from collections.abc import Iterable, Sequence

from jobcast.client.announced import Announced, announced, clock
from jobcast.client.async_client import AsyncClient, AsyncFeed
from jobcast.client.dead_letter import DeadLetter, dead_letter_of
from jobcast.client.effects import Call, FeedState, Operation, log_connection
from jobcast.client.errors import to_client_error
from jobcast.client.listing import Listing
from jobcast.client.position import When
from jobcast.client.record import Record, retry_once
from jobcast.client.replays import Replay, replay, replay_dead_letter
from jobcast.client.scan import Page, Span, last_of, scan
from jobcast.client.waiting import End
from jobcast.ledger.groups import GroupState, groups
from jobcast.redis.connection import ERRORS

FIRST = When(0.0, False, "0")


class Operator(AsyncClient):
    """AsyncClient with what operators of the worker need. Every method raises Unavailable or Refused."""

    async def span(self, stream: str, since: When = FIRST, until: When | None = None) -> Span | None:
        """A range of a stream, up to its present end; None if the stream is empty."""
        last = await self._run(last_of(stream))
        if last is None:
            return None
        now = await self._run(retry_once(clock))
        return Span(stream, since.place(now), last if until is None else until.place(now))

    async def before(self, since: When) -> str:
        """The position for `follow` to give what was published since then, or after the named entry."""
        return since.before(await self._run(retry_once(clock)))

    def list_matching(self, wanted: Listing) -> AsyncFeed[Record]:
        """`list` with conditions that were checked before."""
        return self._feed(self._operations.list(wanted))

    def wait_all(self, eval_ids: Iterable[str], timeout: float | None = None) -> AsyncFeed[End]:
        """The end of each evaluation, as it is known. Raises TimeoutError while iterating, MalformedEvent."""
        return self._feed(self._operations.wait_all(eval_ids, timeout))

    async def mark(self, stream: str) -> tuple[int, str | None]:
        """A value that differs whenever an entry was added to the stream or deleted."""

        def length() -> Operation[int]:
            count = yield Call(("XLEN", stream))
            return int(count)

        return await self._run(retry_once(length)), await self._run(last_of(stream))

    def scan(self, span: Span) -> AsyncFeed[Page]:
        return self._feed((scan(span), FeedState(log_connection)))

    async def dead_letter(self, entry_id: str) -> DeadLetter | None:
        letters = [page.entries[0] async for page in self.scan(Span(self.keys.dead, entry_id, entry_id))]
        return dead_letter_of(letters[0]) if letters else None

    async def dead_letters_by_handler(self, span: Span | None) -> Counter[str]:
        """How many dead letters each handler has; the empty name stands for whole entries."""
        count: Counter[str] = Counter()
        if span is not None:
            async for page in self.scan(span._replace(field="handler", is_bare=True)):
                count.update(dead_letter_of(found).handler for found in page.entries)
        return count

    async def replay(self, of: Replay) -> None:
        """Do not call it again after Unavailable: the replay may have been added."""
        await self._run(replay(self.keys, of))

    async def replay_dead_letter(self, letter: DeadLetter) -> bool:
        """False when it was replayed or dropped meanwhile. Raises ValueError for a dead letter without an event."""
        return await self._run(replay_dead_letter(self.keys, letter))

    async def drop_dead_letters(self, entry_ids: Sequence[str]) -> int:
        """Delete them; returns how many existed."""

        def drop() -> Operation[int]:
            count = yield Call(("XDEL", self.keys.dead, *entry_ids))
            return int(count)

        return await self._run(retry_once(drop))

    async def announced(self) -> list[Announced]:
        return await self._run(announced(self.keys))

    async def groups(self) -> list[GroupState]:
        try:
            return await groups(self._client, self.keys)
        except ERRORS as error:
            raise to_client_error(error) from error
