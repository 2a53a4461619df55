"""The Pods of a followed Job: polled from the API server, and why they wait."""

import asyncio
import contextlib

from jobcast.cli.follow.instances import Instance, instances
from jobcast.cli.follow.screen import Screen
from jobcast.jobs.model import Job, Pod
from jobcast.jobs.progress import find_waiting
from jobcast.kube import Api, Forbidden, KubeError

POLL_SECONDS = 0.5
"""Between reads of the Pods."""
UNPUBLISHED_SECONDS = 15.0
"""Jobcast publishes an end within LOG_WAIT_SECONDS, 10 by default: after this time it is worth a message."""


class JobPods:
    """One Job and its Pods, as read last."""

    def __init__(self, api: Api, job: Job, screen: Screen) -> None:
        self.api = api
        self.job = job
        self.is_ended = asyncio.Event()
        """The end is published: there are no new Pods."""
        self._screen = screen
        self._said: set[str] = set()
        """Reasons to wait: they alternate (ErrImagePull, ImagePullBackOff), and each is printed once."""
        self._warn_at: float | None = None
        """By the loop's clock: when to say that the end is not published; infinite once it is said."""

    async def read(self) -> list[Pod]:
        """Retries while the API server is unreachable, unless the end is published. Raises Forbidden."""
        while True:
            try:
                job = await self.api.job(self.job.namespace, self.job.name)
                if job is not None and job.uid == self.job.uid:
                    self.job = job
                found = await self.api.pods_of(self.job.namespace, self.job.pod_selector)
                return [pod for pod in found if pod.owner == self.job.uid]
            except Forbidden:
                raise
            except KubeError as error:
                if self.is_ended.is_set():
                    return []
                self._screen.state(f"waiting for the cluster: {error}")
                await self.pause()

    async def state_of(self, instance: Instance, patience: float) -> Instance | None:
        """The instance once it is over, or as it is after `patience` seconds; None if its log is gone."""
        late = asyncio.get_running_loop().time() + patience
        while True:
            found = instances(self.job, await self.read())
            now = next((one for one in found if one.key == instance.key), None)
            if now is None or now.is_over or asyncio.get_running_loop().time() >= late:
                return now
            await asyncio.sleep(POLL_SECONDS)

    def show_state(self, pods: list[Pod], *, has_logs: bool) -> None:
        why = find_waiting(pods)
        if why is not None and why.reason not in self._said:
            self._said.add(why.reason)
            self._screen.say(f"{why.pod} waits: {why.reason}" + (f": {why.message}" if why.message else ""))
        if self.job.end is not None:
            self._screen.state("the Job has ended; waiting for Jobcast to publish it")
            self._warn_if_unpublished(self.job.end.type)
        elif why is not None:
            self._screen.state(f"{why.pod} waits: {why.reason}")
        else:
            self._screen.state("between attempts" if has_logs else "waiting for a Pod to run")

    async def pause(self) -> None:
        # Not wait_for: on Python 3.11 it may swallow a cancellation, and so Ctrl-C.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(POLL_SECONDS):
                await self.is_ended.wait()

    def _warn_if_unpublished(self, end: str) -> None:
        now = asyncio.get_running_loop().time()
        if self._warn_at is None:
            self._warn_at = now + UNPUBLISHED_SECONDS
        elif now > self._warn_at:
            self._warn_at = float("inf")
            where = f"namespace {self.job.namespace}"
            self._screen.say(
                f"the Job has ended ({end}), but its end is not published; does a controller watch {where}?"
            )
