"""The client for threads: carries out the programs of this room."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any, Generic, Literal, TypeVar, overload

import redis

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
from jobcast.logstore.fetch import read_object
from jobcast.redis.connection import ERRORS, connect_plain

T = TypeVar("T")
FeedT = TypeVar("FeedT", bound="Feed[Any]")


class Client:
    """AsyncClient for programs without asyncio; its methods promise what the methods of that name promise there.

    Threads may share it. `client` is a redis.Redis to be used instead of `url`.
    """

    def __init__(
        self,
        url: str | None = None,
        prefix: str | None = None,
        *,
        client: "redis.Redis | None" = None,
        trouble: Report = log_trouble,
    ) -> None:
        keys = names(prefix)
        self._programs = Programs(keys, trouble)
        self._is_ours = client is None
        self._client = connect_plain(address(url), prefix=keys.prefix) if client is None else client
        self._feeds: set[Feed[Any]] = set()
        self._is_closed = False

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End every feed and the connections. A feed that another thread waits for ends within 15 seconds."""
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
    ) -> "Feed[Entry[None]]":
        """As AsyncClient.stream."""
        return self._feed(
            self._programs.stream(group, consumer, start, auto_ack, batch, claim_after, carry_out=self._run)
        )

    def follow(self, since: str = "$") -> "Feed[Event]":
        """As AsyncClient.follow."""
        return self._feed(self._programs.follow(since))

    def ping(self) -> None:
        """As AsyncClient.ping."""
        self._run(self._programs.ping())

    def get(self, eval_id: str) -> Record | None:
        """As AsyncClient.get."""
        return self._run(self._programs.get(eval_id))

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
        return self._add(LogFeed(self._programs.log(eval_id, which), self._link(), self._feeds))

    def wait(self, eval_id: str, timeout: float | None = None) -> End:
        """As AsyncClient.wait."""
        return self._run(self._programs.wait(eval_id, timeout))

    def _feed(self, course: Course) -> "Feed[Any]":
        return self._add(Feed(course, self._link(), self._feeds))

    def _add(self, feed: FeedT) -> FeedT:
        self._feeds.add(feed)
        return feed

    def _link(self) -> "Link":
        self._check_open()
        return Link(self._client)

    def _run(self, program: Program[T]) -> T:
        running, link = Running(program), self._link()
        with contextlib.closing(link):
            while running.effect is not None:
                try:
                    answer = link.carry_out(running.effect)
                except ERRORS as error:
                    running.fail(error)
                else:
                    running.answer(answer)
        result: T = running.result
        return result

    def _check_open(self) -> None:
        if self._is_closed:
            raise Unavailable("this client is closed")


class Feed(FeedStats, Generic[T]):
    """What `events`, `stream` and `follow` give: to be iterated over, by one thread at a time.

    As a context manager it has begun (subscribed, joined its group) when the body starts, and ends with it. Without,
    it ends with the loop over it. Raises Refused when Redis refuses for good.
    """

    def __init__(self, course: Course, link: "Link", feeds: "set[Feed[Any]]") -> None:
        program, health = course
        super().__init__(health)
        self._running = Running(program)
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
        # A generator, because a loop that is left by `break` tells its iterator nothing, and closes a generator.
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
            self._running.answer(None)
        item: T = self._advance(Give)
        self._is_given = True
        return item

    def close(self) -> None:
        """End it. Twice is harmless."""
        self._is_closed = True
        self._feeds.discard(self)
        self._link.close()

    def _advance(self, until: type[Ready | Give]) -> Any:
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
            self._take(effect)
        raise StopIteration

    def _take(self, effect: Effect) -> None:
        try:
            answer = self._link.carry_out(effect)
        except Exception as error:
            if self._is_closed:  # by another thread, and the error is how we hear of it
                return
            try:
                self._running.fail(error)
            except BaseException:
                self.close()
                raise
        else:
            self._running.answer(answer)
        if self._is_closed:  # by another thread, while we subscribed
            self._link.close()


class LogFeed(Feed[bytes]):
    """What `log` gives, as AsyncLogFeed."""

    def __init__(self, course: LogCourse, link: "Link", feeds: "set[Feed[Any]]") -> None:
        super().__init__(course, link, feeds)
        self._about = course[1]

    @property
    def log(self) -> Log | None:
        """As AsyncLogFeed.log."""
        return self._about.log

    def __next__(self) -> bytes:
        try:
            return super().__next__()
        except StopIteration:
            check_end(self._running)
            raise

    def read(self) -> bytes:
        """As AsyncLogFeed.read."""
        with self:
            return b"".join(self)


class Link:
    """Carries out effects over a client's pool, with a subscription of its own where there is one."""

    def __init__(self, client: "redis.Redis") -> None:
        self._client: Any = client  # redis-py's own types stop at execute_command
        self._pubsub: Any = None
        self._object: Any = None

    def carry_out(self, effect: Effect) -> Any:
        match effect:
            case Call():
                return self._client.execute_command(*effect.arguments, **options(effect))
            case Listen():
                return self._pubsub.get_message(timeout=effect.seconds)
            case Subscribe():
                self.close()
                self._pubsub = self._client.pubsub()
                self._pubsub.subscribe(*effect.channels)
            case Ping():
                self._pubsub.ping()
            case Pause():
                time.sleep(effect.seconds)
            case Open():
                self.close()
                self._object = read_object(effect.ref)
            case Chunk():
                return next(self._object, None)
            case Ready() | Give():
                pass
        return None

    def close(self) -> None:
        if self._object is not None:
            with contextlib.suppress(ValueError):  # another thread waits for its next bytes, and closes it then
                self._object.close()
                self._object = None
        pubsub, self._pubsub = self._pubsub, None
        if pubsub is not None:
            pubsub.close()
