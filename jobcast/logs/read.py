"""One log as it is read: the slot that this needs, the requests, and the proof that the log was read to its end."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

from msgspec.structs import replace

from jobcast.event import Log
from jobcast.jobs.facts import unavailable
from jobcast.logs.excerpt import Excerpt
from jobcast.logs.stamps import Continuation, Ending, Stamped
from jobcast.logstore.base import LogPlace, LogStore
from jobcast.logstore.uploader import Uploader

HANG_SECONDS = 2.0
"""A read without data for so long gives its slot to another: otherwise one node that does not answer could block all slots."""
YIELD_SECONDS = 0.1
"""How often a read that is not urgent looks whether a slot is free."""
PROOF_LINES = 2
"""The last lines that are requested once more. One would not show that it is the first of two equal ones: a container runtime
may give several lines the same time."""
FIRST_BYTES = 64
"""Of a log, to learn the time of its first line: RFC 3339 with nanoseconds and an offset is 35."""
EMPTY_ANSWERS = 4
"""So many answers in a row without a byte mean that a log is empty in which lines were read: each alone may have been cut."""


class ReadSlot:
    """One of the slots for concurrent reads. A read that hangs gives it up, and takes one again when data arrives.

    Until `is_urgent`, a read has one of the `ahead` slots instead, and waits while no other slot is free.
    """

    def __init__(
        self, slots: asyncio.Semaphore, ahead: asyncio.Semaphore | None = None, is_urgent: asyncio.Event | None = None
    ) -> None:
        self._slots = slots
        self._ahead = ahead if is_urgent is not None and not is_urgent.is_set() else None
        """The slots that this read has one of; None once it is urgent."""
        self._is_urgent = is_urgent or asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._is_held = False

    async def __aenter__(self) -> "ReadSlot":
        if self._ahead is not None and not await self._take_ahead(self._ahead):
            self._ahead = None
        if self._ahead is None:
            await self._acquire()
        self._active_at = self._loop.time()
        self._timer = self._loop.call_later(HANG_SECONDS, self._release_if_hung)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._timer.cancel()
        self._leave_ahead()
        if self._is_held:
            self._slots.release()

    async def resume(self) -> None:
        """Data has arrived: take a slot again if the read has given its own up."""
        while self._ahead is not None and not self._is_urgent.is_set():
            if not self._slots.locked():
                return
            await asyncio.sleep(YIELD_SECONDS)
        self._leave_ahead()
        self._active_at = self._loop.time()
        if not self._is_held:
            await self._acquire()

    async def _take_ahead(self, ahead: asyncio.Semaphore) -> bool:
        """False if the read became urgent before a slot was free."""
        taking = asyncio.create_task(ahead.acquire(), name="log slot")
        urgent = asyncio.create_task(self._is_urgent.wait(), name="log urgent")
        try:
            await asyncio.wait({taking, urgent}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            if taking.done():
                ahead.release()
            raise
        finally:
            urgent.cancel()
            is_taken = taking.done()
            taking.cancel()
        return is_taken

    def _leave_ahead(self) -> None:
        if self._ahead is not None:
            self._ahead.release()
            self._ahead = None

    def hold(self) -> None:
        """The read is over: keep the slot, if there is one, until the context ends."""
        self._timer.cancel()

    async def _acquire(self) -> None:
        await self._slots.acquire()
        self._is_held = True
        self._active_at = self._loop.time()

    def _release_if_hung(self) -> None:
        left = self._active_at + HANG_SECONDS - self._loop.time()
        if left <= 0 and self._is_held:
            self._is_held = False
            self._slots.release()
        self._timer = self._loop.call_later(left if left > 0 else HANG_SECONDS, self._release_if_hung)


@asynccontextmanager
async def within(seconds: float, begins: asyncio.Event) -> AsyncIterator[None]:
    """Raises TimeoutError so many seconds after the event."""
    async with asyncio.timeout(seconds if begins.is_set() else None) as limit:
        if begins.is_set():
            yield
            return

        async def begin() -> None:
            await begins.wait()
            limit.reschedule(asyncio.get_running_loop().time() + seconds)

        beginning = asyncio.create_task(begin(), name="log limit")
        try:
            yield
        finally:
            beginning.cancel()
            await asyncio.wait([beginning])


class LogSource(Protocol):
    """Where logs come from: jobcast.kube.Api, or a fake. `more` are parameters of the request, as the API server has them."""

    def log(
        self,
        namespace: str,
        pod: str,
        container: str,
        *,
        previous: bool = False,
        follow: bool = False,
        more: Mapping[str, str] = ...,
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]: ...


class NoLog(Exception):
    """The kubelet answered with an error message in place of the log."""


class LogBody:
    """One log as it is read, by as many requests as that takes: each continues where the one before ended."""

    def __init__(
        self, source: LogSource, store: LogStore | None, place: LogPlace, excerpt_bytes: int, stall_seconds: float
    ) -> None:
        self._source = source
        self._place = place
        self._uploader = Uploader(store, place, stall_seconds=stall_seconds) if store else None
        self._stamped = Stamped()
        self._is_repeated = False
        """The last request returned what was read before, and nothing new."""
        self.excerpt = Excerpt(excerpt_bytes)
        self._last: Stamped | None = None
        """The last lines of the log, as they were requested last."""
        self._is_final = False
        """The container had ended when they were requested."""
        self.has_gap = False
        """Lines were left out that the kubelet does not have any more."""
        self._has_other_first = False
        """The log begins with another line than the one that was read first."""
        self._empty_answers = 0
        """In a row, to requests for the first line."""
        self._is_followed = False
        self.has_ended = False
        """A request came to an end, but the log was not proved to be read to its end."""

    @property
    def first_time(self) -> str:
        """Of the first line, as the kubelet writes it; empty for an empty log."""
        return self._stamped.first

    async def read_on(self, slot: ReadSlot, *, previous: bool, follow: bool, bridges: bool) -> None:
        """Read the log from where it was read to. Raises NoLog, KubeError, and Differs: the lines that were read last are
        missing. With `bridges` a missing part is left out then."""
        mark = self._stamped.mark
        known = Continuation(mark, bridges=bridges) if mark.size else None
        more = {"timestamps": "true"} | ({"sinceTime": mark.since} if known else {})
        self._stamped.begin()
        self._is_followed |= follow
        place, size = self._place, self._stamped.size
        async with self._source.log(
            place.namespace, place.pod, place.container, previous=previous, follow=follow, more=more
        ) as chunks:
            async for chunk in chunks:
                await slot.resume()
                await self._take(chunk, known)
        self._stamped.end()
        if known is not None:
            known.end()
        if self._stamped.complaint or (known is not None and known.is_complaint):
            raise NoLog
        self.has_ended = True
        self._is_repeated = known is not None and known.is_past and self._stamped.size == size

    async def _take(self, chunk: bytes, known: Continuation | None) -> None:
        if known is not None:
            had_gap = known.has_gap
            chunk = known.feed(chunk)
            if known.has_gap and not had_gap:
                self.has_gap = True
                self._stamped.begin(is_new_line=True)
        if found := self._stamped.feed(chunk):
            self.has_ended = False
            self.excerpt.feed(found)
            if self._uploader is not None:
                await self._uploader.feed(found)

    async def ask_end(self, *, previous: bool, is_final: bool) -> None:
        """Request the last lines of the log once more, and the first one of a log that was followed. `is_final`: the container has
        ended. Raises KubeError and NoLog."""
        asked = [self._ask(previous, "tailLines", PROOF_LINES)]
        if self._is_followed and not self.is_rotated:
            asked.append(self._ask(previous, "limitBytes", FIRST_BYTES))
        # At once: the kubelet may drop the log at any moment.
        answers = await asyncio.gather(*asked, return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        last, *firsts = (answer for answer in answers if isinstance(answer, Stamped))
        for first in firsts:
            if last.size and not first.first:
                return  # it was cut
            self._note_first(first)
        self._last, self._is_final = last, is_final

    async def look_for_rotation(self, *, previous: bool) -> None:
        """Before a followed log is read on. Raises KubeError, and NoLog as long as an empty answer may have been cut."""
        if self._is_followed and self._stamped.first and not self.is_rotated:
            self._note_first(await self._ask(previous, "limitBytes", FIRST_BYTES))
            if self._empty_answers and not self.is_rotated:
                raise NoLog

    async def _ask(self, previous: bool, part: str, size: int) -> Stamped:
        """Request only a part of the log."""
        found, place = Stamped(), self._place
        more = {"timestamps": "true", part: str(size)}
        async with self._source.log(
            place.namespace, place.pod, place.container, previous=previous, more=more
        ) as chunks:
            async for chunk in chunks:
                found.feed(chunk)
        found.end()
        if found.complaint:
            raise NoLog
        return found

    def _note_first(self, answer: Stamped) -> None:
        known = self._stamped.first
        self._empty_answers = self._empty_answers + 1 if known and not answer.first else 0
        self._has_other_first |= bool(known) and answer.first not in ("", known)

    @property
    def is_emptied(self) -> bool:
        """The kubelet rotated the log, and nothing was printed since."""
        return self._empty_answers >= EMPTY_ANSWERS

    @property
    def is_rotated(self) -> bool:
        """The kubelet rotated the log while it was followed. It may have dropped what was printed at that moment: containerd writes
        that into the old file, and the kubelet reads the new one already."""
        return self._has_other_first or self.is_emptied

    @property
    def is_proved(self) -> bool:
        """The log ended where it was read to, when its last lines were requested."""
        return self._ending is Ending.SAME or (self._ending is Ending.SIMILAR and self._is_repeated)

    @property
    def is_similar(self) -> bool:
        """It may have ended there, and cannot be read again to prove it, because it was rotated."""
        return self.is_rotated and self._ending is Ending.SIMILAR

    @property
    def lacks_lines(self) -> bool:
        """The lines that were read last may be missing because the log was rotated, and later ones were not read yet."""
        return self.is_rotated and self._ending is Ending.OTHER

    @property
    def _ending(self) -> Ending:
        return Ending.OTHER if self._last is None else self._stamped.compare(self._last)

    @property
    def is_complete(self) -> bool:
        return self._is_final and self.is_proved

    async def abort(self) -> None:
        if self._uploader is not None:
            await self._uploader.abort()

    async def end(self) -> Uploader | None:
        """What finishes the upload. None without a store, and for an empty log: there is nothing to upload."""
        if self.excerpt.size:
            return self._uploader
        await self.abort()
        return None

    def log(self, reason: str | None) -> Log:
        """What the event says about the log, before it is stored; `reason` is why it is incomplete."""
        excerpt, source, instance = self.excerpt, self._place.source, self._place.instance
        if reason is not None and not excerpt.size:
            return replace(unavailable(reason, source).log, instance=instance)
        return Log(
            state="truncated" if reason else "complete",
            reason=reason,
            bytes=excerpt.size,
            source=source,
            sha256=excerpt.sha256,
            instance=instance,
        )
