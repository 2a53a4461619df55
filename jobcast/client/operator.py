"""The client for operators of the worker: dead letters, replays, how far behind everybody is. For asyncio alone, because
the command line is all that needs it."""

from collections import Counter
from collections.abc import Sequence

from jobcast.client.announced import Announced, announced, clock
from jobcast.client.async_client import AsyncClient, AsyncFeed
from jobcast.client.dead_letter import DeadLetter, letter_of
from jobcast.client.effects import Call, Health, Program, log_trouble
from jobcast.client.errors import told
from jobcast.client.position import When
from jobcast.client.record import asked
from jobcast.client.replays import Replay, replay, replay_letter
from jobcast.client.scan import Page, Span, last_of, scan
from jobcast.ledger.groups import GroupState, groups
from jobcast.redis.connection import ERRORS

FIRST = When(0.0, False, "0")


class Operator(AsyncClient):
    """What a subscriber may ask, and what only who runs the worker should. Every method raises Unavailable or Refused."""

    async def span(self, stream: str, since: When = FIRST, until: When | None = None) -> Span | None:
        """A range of a stream that ends where the stream ends now; None while there is none."""
        last = await self._run(last_of(stream))
        if last is None:
            return None
        now = await self._run(asked(clock))
        return Span(stream, since.place(now), last if until is None else until.place(now))

    async def before(self, since: When) -> str:
        """Where to follow the stream from, to be given what was told since then, or after the entry that is named."""
        return since.before(await self._run(asked(clock)))

    async def mark(self, stream: str) -> tuple[int, str | None]:
        """What is another one whenever something was added to a stream or taken from it."""

        def length() -> Program[int]:
            count = yield Call(("XLEN", stream))
            return int(count)

        return await self._run(asked(length)), await self._run(last_of(stream))

    def scan(self, span: Span) -> AsyncFeed[Page]:
        return self._feed((scan(span), Health(log_trouble)))

    async def letter(self, letter_id: str) -> DeadLetter | None:
        letters = [page.entries[0] async for page in self.scan(Span(self.keys.dead, letter_id, letter_id))]
        return letter_of(letters[0]) if letters else None

    async def handlers_of_letters(self, span: Span | None) -> Counter[str]:
        """How many dead letters each handler has; under the empty name those of entries set aside as a whole."""
        count: Counter[str] = Counter()
        if span is not None:
            async for page in self.scan(span._replace(field="handler", is_bare=True)):
                count.update(letter_of(found).handler for found in page.entries)
        return count

    async def replay(self, of: Replay) -> None:
        """Not to be called again after Unavailable: it may have been done."""
        await self._run(replay(self.keys, of))

    async def replay_letter(self, letter: DeadLetter) -> bool:
        """False when the letter was replayed or dropped meanwhile. Raises ValueError for one without an event."""
        return await self._run(replay_letter(self.keys, letter))

    async def drop(self, letters: Sequence[str]) -> int:
        """How many of the dead letters were still there."""

        def drop() -> Program[int]:
            count = yield Call(("XDEL", self.keys.dead, *letters))
            return int(count)

        return await self._run(asked(drop))

    async def announced(self) -> list[Announced]:
        return await self._run(announced(self.keys))

    async def groups(self) -> list[GroupState]:
        try:
            return await groups(self._client, self.keys)
        except ERRORS as error:
            raise told(error) from error
