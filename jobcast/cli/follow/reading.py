"""The log of one container instance while it is written: read live, and completed from the log store.

    read it live ─▶ is its last line the log's? ──yes──▶ done
         ▲                      └─no─▶ the rest from the log store
         └── connection lost: read again, skipping what was written

Each byte is written once. What is missing is said, with the reason.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping

from jobcast.cli.follow.instances import Continued, Differs, Instance
from jobcast.cli.follow.pods import POLL_SECONDS, JobPods
from jobcast.cli.follow.screen import Screen
from jobcast.cli.follow.stored import rest
from jobcast.client import AsyncClient
from jobcast.kube import Forbidden, KubeError, NotFound
from jobcast.logs.read import PROOF_LINES
from jobcast.logs.stamps import Ending, Stamped

SILENCE_SECONDS = 120.0
"""A log without output for so long is opened again, because the connection may be dead."""
STATE_SECONDS = 5.0
"""The kubelet reports the end of a container within a second or two after the end of its log."""
LAST_SECONDS = 40.0
"""How long a log is read after the Job's end is published: a Pod that is deleted has 30 s by default to end."""
STORE_SECONDS = 15.0
"""How long to wait for the rest of a log: Jobcast reads it for up to LOG_WAIT_SECONDS, 10 by default."""
_NOTHING: Mapping[str, str] = {}


class LogReading:
    def __init__(self, pods: JobPods, jobcast: AsyncClient, screen: Screen, instance: Instance) -> None:
        self.instance = instance
        self.is_whole = True
        """No known byte is missing."""
        self._pods = pods
        self._jobcast = jobcast
        self.screen = screen
        self._log = Continued(screen.write)
        self._last_read = Stamped()
        self._is_repeated = False
        """The last two reads ended at the same line."""

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
            is_proved, patience = False, STATE_SECONDS
            try:
                await self._read_once(instance)
                # At once: the kubelet drops the log of a deleted Pod as soon as its containers have ended.
                is_proved = await self._prove(instance)
                if is_proved and instance.is_over:
                    return True
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
                patience = 0.0
            now = await self._pods.state_of(instance, patience)
            if now is None:
                return is_proved  # the Pod was deleted when its container ended
            if is_proved and now.is_over and await self._is_still_proved(now):
                return True
            instance = now
            await asyncio.sleep(POLL_SECONDS)

    async def _read_once(self, instance: Instance) -> None:
        self._log.begin()
        read = Stamped()
        async for chunk in self._chunks(instance, read, follow=not instance.is_over):
            self._log.feed(chunk)
            self.screen.flush()
        self._is_repeated, self._last_read = read.mark == self._last_read.mark, read

    async def _prove(self, instance: Instance) -> bool:
        """Whether the log ends where it was read to: its last lines are requested once more."""
        last = Stamped()
        async for _ in self._chunks(instance, last, more={"tailLines": str(PROOF_LINES)}):
            pass
        ending = self._last_read.compare(last)
        return ending is Ending.SAME or (ending is Ending.SIMILAR and self._is_repeated)

    async def _is_still_proved(self, instance: Instance) -> bool:
        """It was proved before the container was known to have ended. A log that is gone by now cannot be proved again."""
        try:
            return await self._prove(instance)
        except NotFound:
            return True
        except KubeError:
            return False

    async def _chunks(
        self, instance: Instance, stamped: Stamped, *, follow: bool = False, more: Mapping[str, str] = _NOTHING
    ) -> AsyncIterator[bytes]:
        """The log without the times of its lines. Raises NotFound where the kubelet has none."""
        async with self._pods.api.log(
            self._pods.job.namespace,
            instance.pod,
            instance.container,
            previous=instance.is_former,
            follow=follow,
            silence=SILENCE_SECONDS,
            more={"timestamps": "true", **more},
        ) as chunks:
            async for chunk in chunks:
                yield stamped.feed(chunk)
        stamped.end()
        if stamped.complaint and not stamped.size:
            raise NotFound(f"the kubelet has no log of {instance.source}", code=404)

    def _begin_again(self) -> None:
        """The kubelet rotated the log while the connection was lost: what of it was shown is not known."""
        self.is_whole = False
        self._log.forget()
        self.screen.say(f"the log of {self.instance.source} was rotated: some of it may be missing, or shown twice")
