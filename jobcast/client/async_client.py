"""The client for asyncio."""

from collections.abc import AsyncIterator, Coroutine, Mapping
from typing import Any, Generic, Literal, Self, TypeVar, overload

import redis
import redis.asyncio

from jobcast.client.address import address, names
from jobcast.client.async_link import Link
from jobcast.client.effects import (
    ConnectionReport,
    Effect,
    Give,
    Operation,
    Ready,
    log_connection,
)
from jobcast.client.entry import Entry
from jobcast.client.errors import Unavailable
from jobcast.client.feed import Execution, FeedCounters, check_end
from jobcast.client.listing import listing
from jobcast.client.log_selector import LogSelector
from jobcast.client.operations import FeedSpec, LogFeedSpec, Operations
from jobcast.client.record import Record
from jobcast.client.waiting import End
from jobcast.event import Event, Log, Progress
from jobcast.filters import OneOrMore
from jobcast.redis.connection import ERRORS, connect

T = TypeVar("T")
FeedT = TypeVar("FeedT", bound="AsyncFeed[Any]")


class AsyncClient:
    """Reads what Jobcast publishes. For one event loop: `async with AsyncClient() as jobcast: ...`

    `url` and `prefix` default to the environment's `REDIS_URL` and `KEY_PREFIX`; raises ValueError when one is wrong.
    The first method call opens a connection. `client` is a redis.asyncio.Redis to use instead of `url`; the caller
    closes it. `trouble` is called with a line when Redis becomes unreachable, and with None when it is reachable again;
    by default both are logged to `jobcast.client`.
    """

    def __init__(
        self,
        url: str | None = None,
        prefix: str | None = None,
        *,
        client: "redis.asyncio.Redis | None" = None,
        trouble: ConnectionReport = log_connection,
    ) -> None:
        self.keys = names(prefix)
        self._operations = Operations(self.keys, trouble)
        self._is_ours = client is None
        self._client = connect(address(url), prefix=self.keys.prefix) if client is None else client
        self._feeds: set[AsyncFeed[Any]] = set()
        self._is_closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End all feeds, also those that are being iterated over, and close the connections."""
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
        """Every event of these statuses (default: all) when it is published. Raises ValueError for an unknown status.

        With `progress`, also the progress of open Jobs, of every evaluation, in order.

        May miss events: those published before the subscription, while the connection is down, or faster than they are
        read (Redis disconnects a subscriber that is tens of megabytes behind). `interruptions` counts these occasions.
        Use `stream` if no event may be missed. `async with jobcast.events() as events` has subscribed when its body
        begins. A dead connection is detected within 15 seconds; the feed reconnects.
        """
        return self._feed(self._operations.events(statuses, progress))

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
        """Every entry of the stream at least once, each to one consumer of the group; it resumes where the group was.

        An entry is acknowledged when the next one is requested, so after the loop's body. An entry whose body ended by
        an exception or a `break` stays pending. It is delivered again when a consumer of the same name starts, or to
        another consumer of the group after `claim_after` seconds. Choose that longer than the longest body takes, else
        two consumers handle the entry. `entry.ack()` acknowledges at once; with `auto_ack` False nothing else does, and
        given entries stay claimed during the iteration.

        `start` is where a new group begins: "0" with all that is kept, "$" with new entries. A group that was lost in
        Redis (a flush) begins with all that is kept. Two readers must not share the name `consumer` at the same time;
        by default each has its own. Not promised: order between consumers, and that no entry comes twice; `event.id` is
        the same each time.
        """
        return self._feed(
            self._operations.stream(group, consumer, start, auto_ack, batch, claim_after, carry_out=self._run)
        )

    def follow(self, since: str = "$") -> "AsyncFeed[Event]":
        """Every event of the stream after the entry `since`, without a group: "0" for all that is kept, "$" for new ones.

        Continues where it was after a lost connection, but only in this process. If Redis lost that entry (a restart
        without data, or a failover to a replica that lacks the latest entries), it continues after the last entry that
        exists, else from the beginning. Not promised: events that the stream's retention deletes before they are read.
        """
        return self._feed(self._operations.follow(since))

    async def ping(self) -> None:
        """Check that Redis answers this account. Feeds and `wait` do not need it. Raises Unavailable or Refused."""
        await self._run(self._operations.ping())

    async def get(self, eval_id: str) -> Record | None:
        """The latest record of the evaluation, or None. Raises Unavailable or Refused."""
        return await self._run(self._operations.get(eval_id))

    def list(
        self,
        *,
        status: OneOrMore | None = None,
        namespace: OneOrMore | None = None,
        labels: Mapping[str, OneOrMore] | None = None,
        pipeline: OneOrMore | None = None,
        since: str | None = None,
        limit: int | None = None,
    ) -> "AsyncFeed[Record]":
        """The records of evaluations, the latest change first: `async for record in jobcast.list(status="failed")`.

        All conditions must hold; of several values for one condition, one is enough. `status` may be `pending`. `labels`
        are those that the events have in `metadata`. `since` is how long ago the last change is at most ("2h"), or a
        time (RFC 3339). Reads in pages: memory stays bounded. Not promised: an evaluation that changes while the list
        is read may be missing.

        Raises ValueError for conditions that cannot hold. Iterating raises Unavailable or Refused.
        """
        return self._feed(self._operations.list(listing(status, namespace, labels, pipeline, since, limit)))

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

        By default the log of the event's `output`, else that of the last attempt. `attempt` counts from 1 in the order
        of the record's `attempts`; for a former Job, whose order is not kept, in the order of Pod names. `container` is
        by default the one that decided the attempt; `instance` the last one read, 0 is the first. `job` is the uid or
        name of one of the evaluation's Jobs, by default the newest.

        Raises ValueError for impossible numbers. Reading raises NotKept, with the reason, when the bytes are not
        available; Damaged, after the last chunk, when they differ from what was read; Unavailable or Refused. Of a log
        that was cut, the kept part is given: see `log` of the feed.
        """
        which = LogSelector(attempt, container, instance, job)
        return self._add(AsyncLogFeed(self._operations.log(eval_id, which), self._new_link(), self._feeds))

    async def wait(self, eval_id: str, timeout: float | None = None) -> End:
        """The end of the evaluation, published before or after this call. Raises TimeoutError after `timeout` seconds.

        It cannot be missed while the record is kept (7 days by default). An unknown evaluation may still be created, so
        this waits for it. Of several Jobs of one evaluation (a platform's retry) the newest known at that moment counts.
        While Redis is unreachable this waits; a dead connection may delay the TimeoutError by up to 5 seconds.
        """
        return await self._run(self._operations.wait(eval_id, timeout))

    def _feed(self, spec: FeedSpec) -> "AsyncFeed[Any]":
        return self._add(AsyncFeed(spec, self._new_link(), self._feeds))

    def _add(self, feed: FeedT) -> FeedT:
        self._feeds.add(feed)
        return feed

    def _new_link(self) -> "Link":
        self._check_open()
        return Link(self._client)

    async def _run(self, operation: Operation[T]) -> T:
        execution, link = Execution(operation), self._new_link()
        try:
            while execution.effect is not None:
                try:
                    answer = await link.answer(execution.effect)
                except ERRORS as error:
                    execution.fail(error)
                else:
                    execution.answer(answer)
        finally:
            await link.close()
        result: T = execution.result
        return result

    def _check_open(self) -> None:
        if self._is_closed:
            raise Unavailable("this client is closed")


class AsyncFeed(FeedCounters, Generic[T]):
    """The result of `events`, `stream`, `follow` and `list`: iterate over it, in one task at a time.

    As a context manager it has started (subscribed, joined its group) when the body begins, and ends with the body.
    Otherwise it ends with the loop. Cancelling the wait for an item, for example by a timeout, loses no item. Raises
    Refused when Redis rejects the request for good.
    """

    def __init__(self, spec: FeedSpec, link: "Link", feeds: "set[AsyncFeed[Any]]") -> None:
        operation, state = spec
        super().__init__(state)
        self._execution = Execution(operation)
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
        # A generator: `break` closes a generator, but not another iterator.
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
            self._execution.answer(None)
        item: T = await self._advance(Give)
        self._is_given = True
        return item

    async def aclose(self) -> None:
        """End it, also while another task iterates over it. A second call does nothing."""
        self._is_closed = True
        self._feeds.discard(self)
        await self._link.close()

    async def _advance(self, until: type[Ready | Give]) -> Any:
        while not self._is_closed:
            effect = self._execution.effect
            if isinstance(effect, Give):
                return effect.item
            if isinstance(effect, Ready):
                self._execution.answer(None)
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
        except Exception as error:  # the operation handles it, or raises it again
            if self._is_closed:  # by another task, which caused the error
                return
            try:
                self._execution.fail(error)
            except BaseException:
                await self.aclose()
                raise
        else:
            self._execution.answer(answer)


class AsyncLogFeed(AsyncFeed[bytes]):
    """The result of `log`: the bytes, in chunks of any size."""

    def __init__(self, spec: LogFeedSpec, link: "Link", feeds: "set[AsyncFeed[Any]]") -> None:
        super().__init__(spec, link, feeds)
        self._log_state = spec[1]

    @property
    def log(self) -> Log | None:
        """The log that is read, for example whether it is complete. None until reading has begun."""
        return self._log_state.log

    async def __anext__(self) -> bytes:
        try:
            return await super().__anext__()
        except StopAsyncIteration:
            check_end(self._execution)
            raise

    async def read(self) -> bytes:
        """The whole log, in memory. Raises NotKept, Damaged, Unavailable or Refused."""
        async with self:
            return b"".join([chunk async for chunk in self])
