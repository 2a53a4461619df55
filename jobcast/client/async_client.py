"""The client for asyncio: carries out the programs of this room."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any, Generic, Literal, Self, TypeVar, overload

import redis
import redis.asyncio

from jobcast.client.address import address, names
from jobcast.client.effects import (
    Call,
    Chunk,
    Effect,
    Give,
    Listen,
    Open,
    Pause,
    Ping,
    Program,
    Ready,
    Report,
    Subscribe,
    log_trouble,
    options,
)
from jobcast.client.entry import Entry
from jobcast.client.errors import Unavailable
from jobcast.client.feed import FeedStats, Running, check_end
from jobcast.client.log_selector import LogSelector
from jobcast.client.operations import Course, LogCourse, Programs
from jobcast.client.record import Record
from jobcast.client.waiting import End
from jobcast.event import Event, Log, Progress
from jobcast.logstore.fetch import read_object_async
from jobcast.redis.connection import ERRORS, connect

CANCEL_SECONDS = 0.05
"""After so long, cancel again: redis-py may have swallowed it."""

T = TypeVar("T")
FeedT = TypeVar("FeedT", bound="AsyncFeed[Any]")


class AsyncClient:
    """A subscriber's view of what Jobcast tells. For one event loop: `async with AsyncClient() as jobcast: ...`

    `url` None is the environment's `REDIS_URL`, `prefix` None its `KEY_PREFIX`; ValueError when one of them is wrong.
    Redis is first asked when something of it is. `client` is a redis.asyncio.Redis to be used instead of `url`, and
    stays the caller's. `trouble` hears a line when Redis is away and None when it is back; else the log
    `jobcast.client` does.
    """

    def __init__(
        self,
        url: str | None = None,
        prefix: str | None = None,
        *,
        client: "redis.asyncio.Redis | None" = None,
        trouble: Report = log_trouble,
    ) -> None:
        self.keys = names(prefix)
        self._programs = Programs(self.keys, trouble)
        self._is_ours = client is None
        self._client = connect(address(url), prefix=self.keys.prefix) if client is None else client
        self._feeds: set[AsyncFeed[Any]] = set()
        self._is_closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End every feed, also one that somebody is iterating over, and the connections."""
        self._is_closed = True
        for feed in list(self._feeds):
            await feed.aclose()
        if self._is_ours:
            await self._client.aclose()

    @overload
    def events(self, *statuses: str, progress: Literal[False] = False) -> "AsyncFeed[Event]": ...

    @overload
    def events(self, *statuses: str, progress: Literal[True]) -> "AsyncFeed[Event | Progress]": ...

    def events(self, *statuses: str, progress: bool = False) -> "AsyncFeed[Any]":
        """Every event of these statuses (of all, with none named) as it is told. Raises ValueError for another status.

        With `progress`, also what is told of Jobs under way, of every evaluation, in the order in which it is told.

        Lossy by nature: what is told before the subscription, while the connection is down or faster than it is read
        (Redis drops a subscriber that is tens of megabytes behind) is gone, and `interruptions` counts the occasions.
        Whoever must not miss anything wants `stream`. `async with jobcast.events() as events` has subscribed when its
        body begins. A mute connection is noticed within 15 seconds, and a Redis that is away waited for.
        """
        return self._feed(self._programs.events(statuses, progress))

    def stream(
        self,
        group: str,
        consumer: str | None = None,
        *,
        start: str = "0",
        auto_ack: bool = True,
        batch: int = 16,
        claim_after: float = 300.0,
    ) -> "AsyncFeed[Entry[Coroutine[Any, Any, None]]]":
        """Every entry of the stream, each to one consumer of the group, at least once; it resumes where the group was.

        An entry is acknowledged when the next one is asked for, so after the loop's body is done with it. What the body
        left by an exception or a `break` stays pending: it comes again, first of all, when a reader of the same name
        starts, or to another consumer of the group `claim_after` seconds after it was given. Choose that longer than
        the longest body, else two work on it. `entry.ack()` acknowledges at once; with `auto_ack` False nothing else
        does, and what is in hand stays claimed while somebody iterates.

        `start` says where a group begins that does not exist yet: "0" with all that is kept, "$" with what comes.
        A group that Redis forgot (a flush) begins anew with all there is. Two readers at a time must not share the name
        `consumer`; without one, each has its own. Not promised: order between consumers, and that nothing comes twice;
        `event.id` is the same each time.
        """
        return self._feed(
            self._programs.stream(group, consumer, start, auto_ack, batch, claim_after, carry_out=self._run)
        )

    def follow(self, since: str = "$") -> "AsyncFeed[Event]":
        """Every event of the stream after the entry `since`, with no group: "0" for all that is kept, "$" for new ones.

        Goes on where it was after a loss of the connection, but only in this process. Where Redis forgot that place (it
        came back empty, or a replica took over that lacks the latest entries), it goes back to the last one that is still
        there, else to the beginning. Not promised: events that the stream's retention drops before they are read.
        """
        return self._feed(self._programs.follow(since))

    async def ping(self) -> None:
        """Ask whether Redis is there and lets us in; feeds and `wait` need it not. Raises Unavailable or Refused."""
        await self._run(self._programs.ping())

    async def get(self, eval_id: str) -> Record | None:
        """What was told of the evaluation last; None when nothing is known of it. Raises Unavailable or Refused."""
        return await self._run(self._programs.get(eval_id))

    def log(
        self,
        eval_id: str,
        *,
        attempt: int | None = None,
        container: str | None = None,
        instance: int | None = None,
        job: str | None = None,
    ) -> "AsyncLogFeed":
        """The exact bytes of a log, in chunks: `async for chunk in jobcast.log("42")`, or `await jobcast.log("42").read()`.

        By default the log behind the event's `output`, else that of the last attempt. `attempt` counts from 1, in the
        order of the record's `attempts`; of a former Job, whose order is not kept, by the names of the Pods. `container`
        is by default the one that decided the attempt; `instance` the last one read, 0 being the first. `job` is the uid
        or name of one of the evaluation's Jobs, by default the newest.

        Raises ValueError for numbers that nothing can have. Reading raises NotKept when the bytes cannot be had, and
        says why; Damaged, after the last chunk, when they are not those that were read; Unavailable or Refused. A log
        that is kept and was cut is given as far as it is kept: see `log` of the feed.
        """
        which = LogSelector(attempt, container, instance, job)
        return self._add(AsyncLogFeed(self._programs.log(eval_id, which), self._link(), self._feeds))

    async def wait(self, eval_id: str, timeout: float | None = None) -> End:
        """The end of the evaluation, told before or after this call. Raises TimeoutError after `timeout` seconds.

        It cannot be missed while its record is kept (7 days by default). An evaluation nobody knows may still come, so
        it is waited for. Of several Jobs of one evaluation (a platform's retry) the newest counts: an end is returned
        when its Job is the newest then known, and what a later Job does is another call's matter. While Redis is away
        it waits; one that is mute may delay the TimeoutError by up to 5 seconds.
        """
        return await self._run(self._programs.wait(eval_id, timeout))

    def _feed(self, course: Course) -> "AsyncFeed[Any]":
        return self._add(AsyncFeed(course, self._link(), self._feeds))

    def _add(self, feed: FeedT) -> FeedT:
        self._feeds.add(feed)
        return feed

    def _link(self) -> "Link":
        self._check_open()
        return Link(self._client)

    async def _run(self, program: Program[T]) -> T:
        running, link = Running(program), self._link()
        try:
            while running.effect is not None:
                try:
                    answer = await link.answer(running.effect)
                except ERRORS as error:
                    running.fail(error)
                else:
                    running.answer(answer)
        finally:
            await link.close()
        result: T = running.result
        return result

    def _check_open(self) -> None:
        if self._is_closed:
            raise Unavailable("this client is closed")


class AsyncFeed(FeedStats, Generic[T]):
    """What `events`, `stream` and `follow` give: to be iterated over, by one task at a time.

    As a context manager it has begun (subscribed, joined its group) when the body starts, and ends with it. Without,
    it ends with the loop over it. Waiting for an item may be cancelled, by a timeout for example: none is lost by it.
    Raises Refused when Redis refuses for good.
    """

    def __init__(self, course: Course, link: "Link", feeds: "set[AsyncFeed[Any]]") -> None:
        program, health = course
        super().__init__(health)
        self._running = Running(program)
        self._link = link
        self._feeds = feeds
        self._is_given = False
        self._is_entered = False
        self._is_closed = False

    async def __aenter__(self) -> "AsyncFeed[T]":
        self._is_entered = True
        try:
            await self._advance(Ready)
        except StopAsyncIteration:
            raise Unavailable("this feed is closed") from None
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def __aiter__(self) -> AsyncIterator[T]:
        # A generator, because a loop that is left by `break` tells its iterator nothing, and closes a generator.
        try:
            while True:
                try:
                    item = await self.__anext__()
                except StopAsyncIteration:
                    return
                yield item
        finally:
            if not self._is_entered:
                await self.aclose()

    async def __anext__(self) -> T:
        if self._is_given:
            self._is_given = False
            self._running.answer(None)
        item: T = await self._advance(Give)
        self._is_given = True
        return item

    async def aclose(self) -> None:
        """End it, also while another task iterates over it. Twice is harmless."""
        self._is_closed = True
        self._feeds.discard(self)
        await self._link.close()

    async def _advance(self, until: type[Ready | Give]) -> Any:
        while not self._is_closed:
            effect = self._running.effect
            if isinstance(effect, Give):
                return effect.item
            if isinstance(effect, Ready):
                self._running.answer(None)
                if until is Ready:
                    return None
                continue
            if effect is None:
                break
            await self._take(effect)
        raise StopAsyncIteration

    async def _take(self, effect: Effect) -> None:
        try:
            answer = await self._link.answer(effect)
        except Exception as error:  # programs know what to make of it, or let it be raised
            if self._is_closed:  # by another task, and the error is how we hear of it
                return
            try:
                self._running.fail(error)
            except BaseException:
                await self.aclose()
                raise
        else:
            self._running.answer(answer)


class AsyncLogFeed(AsyncFeed[bytes]):
    """What `log` gives: the bytes, in chunks of any size."""

    def __init__(self, course: LogCourse, link: "Link", feeds: "set[AsyncFeed[Any]]") -> None:
        super().__init__(course, link, feeds)
        self._about = course[1]

    @property
    def log(self) -> Log | None:
        """What is known of the log: whether it is whole, for one. None until the reading has begun."""
        return self._about.log

    async def __anext__(self) -> bytes:
        try:
            return await super().__anext__()
        except StopAsyncIteration:
            check_end(self._running)
            raise

    async def read(self) -> bytes:
        """All of it, in memory. Raises NotKept, Damaged, Unavailable or Refused."""
        async with self:
            return b"".join([chunk async for chunk in self])


class Link:
    """Carries out effects over a client's pool, with a subscription of its own where there is one."""

    def __init__(self, client: "redis.asyncio.Redis") -> None:
        self._client: Any = client  # redis-py's own types stop at execute_command
        self._pubsub: Any = None
        self._object: Any = None
        self._doing: asyncio.Task[Any] | None = None
        self._is_closed = False

    async def answer(self, effect: Effect) -> Any:
        """The answer to an effect. Who was cancelled while waiting may come back for it: nothing is lost or done twice.

        Hence a task of its own. It also keeps our caller's cancellation out of redis-py, which may swallow it on
        Python 3.11 (by asyncio.wait_for, when what it waited for is done at the same moment).
        """
        if self._doing is None:
            self._doing = asyncio.create_task(self._carry_out(effect), name="jobcast client")
        doing = self._doing
        await asyncio.wait([doing])
        if self._is_closed:
            raise redis.ConnectionError("closed meanwhile")
        self._doing = None
        return doing.result()

    async def close(self) -> None:
        self._is_closed = True
        doing = self._doing
        while doing is not None and not doing.done():
            doing.cancel()
            await asyncio.wait([doing], timeout=CANCEL_SECONDS)
        if doing is not None and not doing.cancelled():
            doing.exception()  # it failed before it could be cancelled: nobody's concern any more
        await self._leave()
        await self._close_object()

    async def _close_object(self) -> None:
        opened, self._object = self._object, None
        if opened is not None:
            await opened.aclose()

    async def _leave(self) -> None:
        pubsub, self._pubsub = self._pubsub, None
        if pubsub is not None:
            await pubsub.aclose()

    async def _carry_out(self, effect: Effect) -> Any:
        match effect:
            case Call():
                return await self._client.execute_command(*effect.arguments, **options(effect))
            case Listen():
                return await self._pubsub.get_message(timeout=effect.seconds)
            case Subscribe():
                await self._leave()
                self._pubsub = self._client.pubsub()
                await self._pubsub.subscribe(*effect.channels)
            case Ping():
                await self._pubsub.ping()
            case Pause():
                await asyncio.sleep(effect.seconds)
            case Open():
                await self._close_object()
                self._object = read_object_async(effect.ref)
            case Chunk():
                return await anext(self._object, None)
            case Ready() | Give():
                pass
        return None
