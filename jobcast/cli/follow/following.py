"""The logs of one Job while they are written: one Pod after the other, or all at once.

read the Pods ─▶ new instances ─▶ read each (see `reading`) ─▶ read the Pods again, until the Job's end is published
"""

import asyncio
from collections.abc import Callable

from jobcast.cli.follow.instances import Instance, Key, instances
from jobcast.cli.follow.pods import POLL_SECONDS, JobPods
from jobcast.cli.follow.reading import LogReading
from jobcast.cli.follow.screen import Screen
from jobcast.cli.follow.stored import logs_of
from jobcast.cli.render.output import complain
from jobcast.client import AsyncClient, AsyncFeed, Unavailable
from jobcast.event import TERMINAL, Event
from jobcast.jobs.model import Job, Pod
from jobcast.kube import Api, Forbidden

MOST = 50
"""Logs that are read at the same time, as stern's --max-log-requests; others follow when one ends."""


def is_parallel(job: Job) -> bool:
    """Whether several of its Pods may run at the same time."""
    return job.is_indexed or job.completions != 1


class Following:
    """The logs of one Job, from its first attempt on or, with `from_now`, from the latest.

    `screen_for` makes the screen of one log; with it, all Pods are followed at once. Else one after the other.
    """

    def __init__(
        self,
        api: Api,
        jobcast: AsyncClient,
        job: Job,
        screen: Screen,
        *,
        screen_for: Callable[[Instance], Screen] | None = None,
        from_now: bool = False,
        wants_log: bool = True,
    ) -> None:
        self.pods = JobPods(api, job, screen)
        self._jobcast = jobcast
        self._screen = screen
        self._screen_for = screen_for
        self._from_now = from_now
        self._wants_log = wants_log
        self._passed: set[Key] = set()
        """Instances that are skipped."""
        self._readings: dict[Key, LogReading] = {}
        """In the order in which they were started."""
        self._running: set[asyncio.Task[None]] = set()

    @property
    def has_written(self) -> bool:
        return bool(self._readings)

    @property
    def is_whole(self) -> bool:
        """No known byte is missing."""
        return all(one.is_whole for one in self._readings.values())

    async def run(self) -> None:
        """Until the end is published and all logs are read. Raises Forbidden, ClientError, BrokenPipeError."""
        try:
            while True:
                is_last = self.pods.is_ended.is_set()
                pods = await self.pods.read()
                new = self._new(pods)
                for instance in new:
                    self._start(instance)
                if self._running:
                    await self._wait()
                elif is_last:
                    break
                else:
                    self.pods.show_state(pods, has_logs=self.has_written)
                    await self.pods.pause()
        finally:
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)
        if self._readings:
            await self._check()

    def end(self) -> None:
        """The Job's end is published: no new Pods start."""
        self.pods.is_ended.set()

    def _new(self, pods: list[Pod]) -> list[Instance]:
        """Those to start now."""
        found = instances(self.pods.job, pods) if self._wants_log else []
        if self._from_now and found:
            is_skipped = [one for one in found if one.is_former] if is_parallel(self.pods.job) else found[:-1]
            self._passed.update(one.key for one in is_skipped)
            self._from_now = False
        room = (1 if self._screen_for is None else MOST) - len(self._running)
        return [one for one in found if one.key not in self._readings and one.key not in self._passed][:room]

    def _start(self, instance: Instance) -> None:
        screen = self._screen if self._screen_for is None else self._screen_for(instance)
        if self._readings and self._screen_for is None:
            restart = f", restart {instance.number}," if instance.number else ""
            self._screen.say(f"the log of {instance.source}{restart} follows")
        reading = self._readings[instance.key] = LogReading(self.pods, self._jobcast, screen, instance)
        self._running.add(asyncio.create_task(reading.run(), name=f"log of {instance.source}"))

    async def _wait(self) -> None:
        """Until one has ended, or it is time to look for new Pods. Raises what a reading raises."""
        is_alone = self._screen_for is None
        done, self._running = await asyncio.wait(
            self._running, timeout=None if is_alone else POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED
        )
        for task in done:
            task.result()

    async def _check(self) -> None:
        """Whether the log store has more than the API server returned."""
        job = self.pods.job
        known = await logs_of(self._jobcast, job.eval_id, job.uid)
        last = next(reversed(self._readings))
        for key, reading in self._readings.items():
            more = known[key].bytes - reading.size if key in known else 0
            if more <= 0:
                continue
            if key == last or self._screen_for is not None:
                await reading.complete(0.0)
                reading.screen.flush(is_end=True)
            else:
                reading.say_missing(f"its last {more} bytes came too late")


async def to_the_end(following: Following, events: AsyncFeed[Event]) -> Event:
    """Show the logs until the Job's end is published. Raises ClientError, BrokenPipeError."""
    ending = asyncio.create_task(_end_of(events, following.pods.job.uid), name="end")
    showing = asyncio.create_task(_show(following), name="log")
    try:
        await asyncio.wait({ending, showing}, return_when=asyncio.FIRST_COMPLETED)
        if showing.done():
            showing.result()
        end = await ending
        following.end()
        await showing
        return end
    finally:
        for task in (ending, showing):
            task.cancel()
        await asyncio.wait({ending, showing})


async def _end_of(events: AsyncFeed[Event], uid: str) -> Event:
    """Raises Refused."""
    async for event in events:
        if event.job.uid == uid and event.status in TERMINAL:
            return event
    raise Unavailable("the connection was closed")


async def _show(following: Following) -> None:
    """Raises ClientError, BrokenPipeError."""
    try:
        await following.run()
    except Forbidden as error:
        complain(f"the log cannot be followed: {error}")
