"""The log of one container instance while it is written: read live, and completed from the log store.

    read it live ─▶ whole? ──yes──▶ done
         ▲            └─no─▶ the rest from the log store
         └── connection lost: read again, skipping what was written

Each byte is written once. What is missing is said, with the reason.
"""

import asyncio

from jobcast.cli.follow.instances import Continued, Differs, Instance
from jobcast.cli.follow.pods import POLL_SECONDS, JobPods
from jobcast.cli.follow.screen import Screen
from jobcast.cli.follow.stored import rest
from jobcast.client import AsyncClient
from jobcast.kube import Forbidden, KubeError, NotFound
from jobcast.logs.reader import GONE_MARK

SILENCE_SECONDS = 120.0
"""A log without output for so long is opened again, because the connection may be dead."""
STATE_SECONDS = 5.0
"""The kubelet reports the end of a container within a second or two after the end of its log."""
LAST_SECONDS = 40.0
"""How long a log is read after the Job's end is published: a Pod that is deleted has 30 s by default to end."""
STORE_SECONDS = 15.0
"""How long to wait for the rest of a log: Jobcast reads it for up to LOG_WAIT_SECONDS, 10 by default."""


class LogReading:
    def __init__(self, pods: JobPods, jobcast: AsyncClient, screen: Screen, instance: Instance) -> None:
        self.instance = instance
        self.is_whole = True
        """No known byte is missing."""
        self._pods = pods
        self._jobcast = jobcast
        self.screen = screen
        self._log = Continued(screen.write)

    @property
    def size(self) -> int:
        """Bytes written."""
        return self._log.size

    async def run(self) -> None:
        """To the end of the log. Raises Forbidden, ClientError, BrokenPipeError."""
        self.screen.state(f"{self.instance.source} runs")
        reading = asyncio.create_task(self._read(), name=f"follow {self.instance.source}")
        try:
            is_read = await self._until_published(reading)
        finally:
            reading.cancel()
        if not is_read:
            await self.complete(STORE_SECONDS)
        self.screen.flush(is_end=True)

    async def complete(self, patience: float) -> None:
        """Write the rest from the log store, waiting up to `patience` seconds for it. Raises ClientError."""
        job, instance = self._pods.job, self.instance
        why = await rest(self._jobcast, job.eval_id, job.uid, instance.key, self._log, patience)
        if why is not None:
            self.say_missing(why)

    def say_missing(self, why: str) -> None:
        self.is_whole = False
        self.screen.say(f"the log of {self.instance.source} is not whole here: {why}")

    async def _until_published(self, reading: "asyncio.Task[bool]") -> bool:
        """The result of the reading; False if it hangs after the Job's end is published."""
        published = asyncio.create_task(self._pods.is_ended.wait(), name="end published")
        await asyncio.wait({reading, published}, return_when=asyncio.FIRST_COMPLETED)
        published.cancel()
        done, _ = await asyncio.wait({reading}, timeout=LAST_SECONDS)
        return reading.result() if done else False

    async def _read(self) -> bool:
        """Whether all of it was written; False if it can no longer be read. Raises Forbidden."""
        instance = self.instance
        while True:
            is_cut = False
            try:
                await self._read_once(instance)
            except NotFound:
                return False
            except Differs:
                if instance.is_over:
                    return False
                self._begin_again()
                continue
            except Forbidden:
                raise
            except KubeError:
                is_cut = True
                await asyncio.sleep(POLL_SECONDS)
            now = await self._pods.state_of(instance, 0.0 if is_cut else STATE_SECONDS)
            if now is None:
                return not is_cut  # the Pod was deleted when its container ended
            if now.is_over and not is_cut:
                return True
            instance = now

    async def _read_once(self, instance: Instance) -> None:
        self._log.begin()
        async with self._pods.api.log(
            self._pods.job.namespace,
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
                self._log.feed(chunk)
                self.screen.flush()

    def _begin_again(self) -> None:
        """The kubelet rotated the log while the connection was lost: what of it was shown is not known."""
        self.is_whole = False
        self._log.forget()
        self.screen.say(f"the log of {self.instance.source} was rotated: some of it may be missing, or shown twice")
