"""The client for threads."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, Generic, Literal, TypeVar, overload

import redis

from jobcast.client.address import address, names
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
from jobcast.client.sync_link import Link
from jobcast.client.waiting import End
from jobcast.event import Event, Log, Progress
from jobcast.filters import OneOrMore
from jobcast.redis.connection import ERRORS, connect_plain

T = TypeVar("T")
FeedT = TypeVar("FeedT", bound="Feed[Any]")


class Client:
    """AsyncClient for programs without asyncio: the same methods with the same promises.

    Threads may share it. `client` is a redis.Redis to use instead of `url`.
    """

    def __init__(
        self,
        url: str | None = None,
        prefix: str | None = None,
        *,
        client: "redis.Redis | None" = None,
        trouble: ConnectionReport = log_connection,
    ) -> None:
        keys = names(prefix)
        self._operations = Operations(keys, trouble)
        self._is_ours = client is None
        self._client = connect_plain(address(url), prefix=keys.prefix) if client is None else client
        self._feeds: set[Feed[Any]] = set()
        self._is_closed = False

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all feeds and close the connections. A feed that another thread waits for ends within 15 seconds."""
        self._is_closed = True
        for feed in list(self._feeds):
            feed.close()
        if self._is_ours:
            self._client.close()

    @overload
    def events(self, *statuses: str, progress: Literal[False] = False) -> "Feed[Event]": ...

    @overload
    def events(self, *statuses: str, progress: Literal[True]) -> "Feed[Event | Progress]": ...

    def events(self, *statuses: str, progress: bool = False) -> "Feed[Any]":
        """As AsyncClient.events."""
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
    ) -> "Feed[Entry[None]]":
        """As AsyncClient.stream."""
        return self._feed(
            self._operations.stream(group, consumer, start, auto_ack, batch, claim_after, carry_out=self._run)
        )

    def follow(self, since: str = "$") -> "Feed[Event]":
        """As AsyncClient.follow."""
        return self._feed(self._operations.follow(since))

    def ping(self) -> None:
        """As AsyncClient.ping."""
        self._run(self._operations.ping())

    def get(self, eval_id: str) -> Record | None:
        """As AsyncClient.get."""
        return self._run(self._operations.get(eval_id))

    def list(
        self,
        *,
        status: OneOrMore | None = None,
        namespace: OneOrMore | None = None,
        labels: Mapping[str, OneOrMore] | None = None,
        pipeline: OneOrMore | None = None,
        since: str | None = None,
        limit: int | None = None,
    ) -> "Feed[Record]":
        """As AsyncClient.list."""
        return self._feed(self._operations.list(listing(status, namespace, labels, pipeline, since, limit)))

    def log(
        self,
        eval_id: str,
        *,
        attempt: int | None = None,
        container: str | None = None,
        instance: int | None = None,
        job: str | None = None,
    ) -> "LogFeed":
        """As AsyncClient.log."""
        which = LogSelector(attempt, container, instance, job)
        return self._add(LogFeed(self._operations.log(eval_id, which), self._new_link(), self._feeds))

    def wait(self, eval_id: str, timeout: float | None = None) -> End:
        """As AsyncClient.wait."""
        return self._run(self._operations.wait(eval_id, timeout))

    def _feed(self, spec: FeedSpec) -> "Feed[Any]":
        return self._add(Feed(spec, self._new_link(), self._feeds))

    def _add(self, feed: FeedT) -> FeedT:
        self._feeds.add(feed)
        return feed

    def _new_link(self) -> "Link":
        self._check_open()
        return Link(self._client)

    def _run(self, operation: Operation[T]) -> T:
        execution, link = Execution(operation), self._new_link()
        with contextlib.closing(link):
            while execution.effect is not None:
                try:
                    answer = link.perform(execution.effect)
                except ERRORS as error:
                    execution.fail(error)
                else:
                    execution.answer(answer)
        result: T = execution.result
        return result

    def _check_open(self) -> None:
        if self._is_closed:
            raise Unavailable("this client is closed")


class Feed(FeedCounters, Generic[T]):
    """The result of `events`, `stream`, `follow` and `list`: iterate over it, in one thread at a time.

    As a context manager it has started (subscribed, joined its group) when the body begins, and ends with the body.
    Otherwise it ends with the loop. Raises Refused when Redis rejects the request for good.
    """

    def __init__(self, spec: FeedSpec, link: "Link", feeds: "set[Feed[Any]]") -> None:
        operation, state = spec
        super().__init__(state)
        self._execution = Execution(operation)
        self._link = link
        self._feeds = feeds
        self._is_given = False
        self._is_entered = False
        self._is_closed = False

    def __enter__(self) -> "Feed[T]":
        self._is_entered = True
        try:
            self._advance(Ready)
        except StopIteration:
            raise Unavailable("this feed is closed") from None
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[T]:
        # A generator: `break` closes a generator, but not another iterator.
        try:
            while True:
                try:
                    item = next(self)
                except StopIteration:
                    return
                yield item
        finally:
            if not self._is_entered:
                self.close()

    def __next__(self) -> T:
        if self._is_given:
            self._is_given = False
            self._execution.answer(None)
        item: T = self._advance(Give)
        self._is_given = True
        return item

    def close(self) -> None:
        """End it. A second call does nothing."""
        self._is_closed = True
        self._feeds.discard(self)
        self._link.close()

    def _advance(self, until: type[Ready | Give]) -> Any:
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
            self._take(effect)
        raise StopIteration

    def _take(self, effect: Effect) -> None:
        try:
            answer = self._link.perform(effect)
        except Exception as error:
            if self._is_closed:  # by another thread, which caused the error
                return
            try:
                self._execution.fail(error)
            except BaseException:
                self.close()
                raise
        else:
            self._execution.answer(answer)
        if self._is_closed:  # by another thread, while we subscribed
            self._link.close()


class LogFeed(Feed[bytes]):
    """The result of `log`, as AsyncLogFeed."""

    def __init__(self, spec: LogFeedSpec, link: "Link", feeds: "set[Feed[Any]]") -> None:
        super().__init__(spec, link, feeds)
        self._log_state = spec[1]

    @property
    def log(self) -> Log | None:
        """As AsyncLogFeed.log."""
        return self._log_state.log

    def __next__(self) -> bytes:
        try:
            return super().__next__()
        except StopIteration:
            check_end(self._execution)
            raise

    def read(self) -> bytes:
        """As AsyncLogFeed.read."""
        with self:
            return b"".join(self)
