"""A Job's log as it is printed: from the API server while a container runs, finished from what Jobcast has stored.

    look at the Pods ─▶ next instance ─▶ read it live ─▶ whole? ──yes──▶ look again
                                              ▲            └─no─▶ the rest from the log store
                                              └── cut: read again, passing over what was written

Each byte is written once. What cannot be had is said, with its reason.
"""

import asyncio
import contextlib
from typing import Protocol

from jobcast.cli.follow.instances import Continued, Differs, Instance, Key, instances
from jobcast.cli.follow.stored import logs_of, rest
from jobcast.cli.render.output import complain
from jobcast.client import AsyncClient, AsyncFeed, Unavailable
from jobcast.event import TERMINAL, Event
from jobcast.jobs.model import JOB_UID_LABEL, Job, Pod
from jobcast.jobs.progress import find_waiting
from jobcast.kube import Api, Forbidden, KubeError, NotFound
from jobcast.logs.reader import GONE_MARK

LOOK_SECONDS = 0.5
"""Between looks at the Pods: a start, or a reason to wait, is noticed that late."""
SILENCE_SECONDS = 120.0
"""A log that says nothing for so long is opened anew, because the link may be dead; it is read again from its beginning."""
STATE_SECONDS = 5.0
"""The kubelet reports a container's end within a second or two after its log's."""
LAST_SECONDS = 40.0
"""The longest that a log is read on once the Job's end is told: a Pod that goes with its Job has 30 s by default to do so."""
STORE_SECONDS = 15.0
"""The longest that the rest of a log is waited for: Jobcast may read it for LOG_WAIT_SECONDS, 10 by default."""


TOLD_SECONDS = 15.0
"""Jobcast tells of an end within LOG_WAIT_SECONDS: after so long it is worth a word that it has not."""


class Screen(Protocol):
    """Where it is shown."""

    def write(self, chunk: bytes) -> None: ...

    def flush(self, *, is_end: bool = False) -> None: ...

    def say(self, line: str) -> None:
        """A line beside the log."""

    def state(self, text: str) -> None:
        """How it stands; shown until the next one."""


class Following:
    """The log of one Job, from its first attempt on or, with `from_now`, from the latest. Pods that run at the same time are
    shown one after the other."""

    def __init__(
        self,
        api: Api,
        jobcast: AsyncClient,
        job: Job,
        screen: Screen,
        *,
        from_now: bool = False,
        wants_log: bool = True,
    ) -> None:
        self.job = job
        """As it was seen last."""
        self.is_whole = True
        """Nothing was left out, as far as anybody knows."""
        self._api = api
        self._jobcast = jobcast
        self._screen = screen
        self._from_now = from_now
        self._wants_log = wants_log
        self._passed: set[Key] = set()
        """Instances that are not wanted."""
        self._logs: dict[Key, Continued] = {}
        """Of those that are, in the order in which they were begun."""
        self._said: set[str] = set()
        """Reasons to wait: they come and go (ErrImagePull, ImagePullBackOff), and each is news once."""
        self._told_late: float | None = None
        """By the loop's clock: when to say that nobody tells of the end; infinite once it is said."""
        self._is_ended = asyncio.Event()

    @property
    def has_written(self) -> bool:
        return bool(self._logs)

    async def run(self) -> None:
        """Until the end was told, and the Pods have no more to say. Raises Forbidden, ClientError, BrokenPipeError."""
        while True:
            is_last = self._is_ended.is_set()
            pods = await self._look()
            instance = self._next(pods)
            if instance is not None:
                await self._follow(instance)
            elif is_last:
                break
            else:
                self._show_state(pods)
                await self._pause()
        if self._logs:
            await self._check()

    def end(self) -> None:
        """The Job's end is told: what the Pods say now is all."""
        self._is_ended.set()

    def _next(self, pods: list[Pod]) -> Instance | None:
        found = instances(self.job, pods) if self._wants_log else []
        if self._from_now and found:
            self._passed.update(one.key for one in found[:-1])
            self._from_now = False
        return next((one for one in found if one.key not in self._logs and one.key not in self._passed), None)

    async def _follow(self, instance: Instance) -> None:
        if self._logs:
            restart = f", restart {instance.number}," if instance.number else ""
            self._screen.say(f"the log of {instance.source}{restart} follows")
        log = self._logs[instance.key] = Continued(self._screen.write)
        self._screen.state(f"{instance.source} runs")
        reading = asyncio.create_task(self._read(instance, log), name=f"follow {instance.source}")
        try:
            is_whole = await self._until_told(reading)
        finally:
            reading.cancel()
        if not is_whole:
            await self._finish(instance.key, log, STORE_SECONDS)
        self._screen.flush(is_end=True)

    async def _until_told(self, reading: "asyncio.Task[bool]") -> bool:
        """The read's result; False for one that hangs though the Job's end is told."""
        told = asyncio.create_task(self._is_ended.wait(), name="end told")
        await asyncio.wait({reading, told}, return_when=asyncio.FIRST_COMPLETED)
        told.cancel()
        done, _ = await asyncio.wait({reading}, timeout=LAST_SECONDS)
        return reading.result() if done else False

    async def _read(self, instance: Instance, log: Continued) -> bool:
        """Whether all of it was written. False when it cannot be read any more. Raises Forbidden."""
        while True:
            is_cut = False
            try:
                await self._read_once(instance, log)
            except NotFound:
                return False
            except Differs:
                if instance.is_over:
                    return False
                self._begin_anew(instance, log)
                continue
            except Forbidden:
                raise
            except KubeError:
                is_cut = True
                await asyncio.sleep(LOOK_SECONDS)
            now = await self._state_of(instance, 0.0 if is_cut else STATE_SECONDS)
            if now is None:
                return not is_cut  # the Pod went with its container's end
            if now.is_over and not is_cut:
                return True
            instance = now

    async def _read_once(self, instance: Instance, log: Continued) -> None:
        log.begin()
        async with self._api.log(
            self.job.namespace,
            instance.pod,
            instance.container,
            previous=instance.is_former,
            follow=not instance.is_over,
            silence=SILENCE_SECONDS,
        ) as chunks:
            is_first = True
            async for chunk in chunks:
                if is_first and chunk.startswith(GONE_MARK):
                    raise NotFound(chunk.decode(errors="replace"), code=404)
                is_first = False
                log.feed(chunk)
                self._screen.flush()

    def _begin_anew(self, instance: Instance, log: Continued) -> None:
        """The kubelet rotated the log while the link was cut: there is no telling what of it has been shown."""
        self.is_whole = False
        log.forget()
        self._screen.say(f"the log of {instance.source} was rotated: some of it may be missing, or shown twice")

    async def _state_of(self, instance: Instance, patience: float) -> Instance | None:
        """The instance once its end is reported, or as it is after `patience`; None when its log can be read no more."""
        late = asyncio.get_running_loop().time() + patience
        while True:
            found = instances(self.job, await self._look())
            now = next((one for one in found if one.key == instance.key), None)
            if now is None or now.is_over or asyncio.get_running_loop().time() >= late:
                return now
            await asyncio.sleep(LOOK_SECONDS)

    async def _finish(self, key: Key, log: Continued, patience: float) -> None:
        why = await rest(self._jobcast, self.job.eval_id, self.job.uid, key, log, patience)
        if why is not None:
            self.is_whole = False
            self._screen.say(f"the log of {key[0]}/{key[1]} is not whole here: {why}")

    async def _check(self) -> None:
        """Whether there was more of what the API server let us read to its end."""
        known = await logs_of(self._jobcast, self.job.eval_id, self.job.uid)
        *before, last = self._logs
        for key in before:
            more = known[key].bytes - self._logs[key].size if key in known else 0
            if more > 0:
                self.is_whole = False
                self._screen.say(f"the log of {key[0]}/{key[1]} is not whole here: its last {more} bytes came too late")
        if last in known and known[last].bytes > self._logs[last].size:
            await self._finish(last, self._logs[last], 0.0)
            self._screen.flush(is_end=True)

    async def _look(self) -> list[Pod]:
        """The Job's Pods. While the API server is away, waits for it, unless the Job's end is told. Raises Forbidden."""
        while True:
            try:
                job = await self._api.job(self.job.namespace, self.job.name)
                if job is not None and job.uid == self.job.uid:
                    self.job = job
                return await self._api.pods_of(self.job.namespace, f"{JOB_UID_LABEL}={self.job.uid}")
            except Forbidden:
                raise
            except KubeError as error:
                if self._is_ended.is_set():
                    return []
                self._screen.state(f"waiting for the cluster: {error}")
                await self._pause()

    def _show_state(self, pods: list[Pod]) -> None:
        why = find_waiting(pods)
        if why is not None and why.reason not in self._said:
            self._said.add(why.reason)
            self._screen.say(f"{why.pod} waits: {why.reason}" + (f": {why.message}" if why.message else ""))
        if self.job.end is not None:
            self._screen.state("it has ended; waiting for Jobcast to tell of it")
            self._say_when_late(self.job.end.type)
        elif why is not None:
            self._screen.state(f"{why.pod} waits: {why.reason}")
        else:
            self._screen.state("between attempts" if self._logs else "waiting for a Pod to run")

    def _say_when_late(self, end: str) -> None:
        now = asyncio.get_running_loop().time()
        if self._told_late is None:
            self._told_late = now + TOLD_SECONDS
        elif now > self._told_late:
            self._told_late = float("inf")
            where = f"namespace {self.job.namespace}"
            self._screen.say(f"the Job has ended ({end}), and nobody tells of it: does a controller watch {where}?")

    async def _pause(self) -> None:
        # Not wait_for: on Python 3.11 it may swallow a cancellation, and so Ctrl-C.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_SECONDS):
                await self._is_ended.wait()


async def to_the_end(following: Following, told: AsyncFeed[Event]) -> Event:
    """Shows the log until the Job's end is told, and all of it. Raises ClientError, BrokenPipeError."""
    telling = asyncio.create_task(_end_of(told, following.job.uid), name="end")
    showing = asyncio.create_task(_show(following), name="log")
    try:
        await asyncio.wait({telling, showing}, return_when=asyncio.FIRST_COMPLETED)
        if showing.done():
            showing.result()
        end = await telling
        following.end()
        await showing
        return end
    finally:
        for task in (telling, showing):
            task.cancel()
        await asyncio.wait({telling, showing})


async def _end_of(told: AsyncFeed[Event], uid: str) -> Event:
    """Raises Refused."""
    async for event in told:
        if event.job.uid == uid and event.status in TERMINAL:
            return event
    raise Unavailable("the connection was closed")


async def _show(following: Following) -> None:
    """Raises ClientError, BrokenPipeError."""
    try:
        await following.run()
    except Forbidden as error:
        complain(f"the log cannot be followed: {error}")
