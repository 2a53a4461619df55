"""Everything that runs: started in order, always stopped in reverse."""

import asyncio
import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from chaos import reader as looks
from chaos.access import Cluster
from chaos.apiproxy import ApiProxy
from chaos.certificates import Authority
from chaos.kubelet import Kubelet
from chaos.parts import ROOT, Part
from chaos.plan import PARTS
from chaos.reader import Reader, until
from chaos.redisproxy import RedisProxy
from chaos.truth import Truth
from chaos.valkey import Valkey
from chaos.verdict import Forgetting, PublishedEvent
from jobcast.kube.access import Access

READER = "reader"
ELSEWHERE = "elsewhere"
"""The door of a cluster that no process is to use. It leads to the right one, so that nothing else fails if one does."""
SETTINGS = {
    "SWEEP_SECONDS": "10",
    "TAKEOVER_SECONDS": "10",
    "HANDLERS": "chaos.handlers",
    "LOG_FORMAT": "json",
}
"""Settings of the processes; others keep their defaults. Takeover and sweep come sooner, so that a run ends sooner."""


@dataclass(frozen=True)
class Means:
    """What this machine and cluster can do beyond the API."""

    restart_server: str | None = None
    """A command that restarts the API server and returns when it answers again."""
    compact: str | None = None
    """A command that compacts etcd, so that every watch history is lost."""
    faketime: str | None = None
    """The path of libfaketime."""


@dataclass
class World:
    means: Means
    devcluster: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)
    """More settings of the processes."""
    doomed_namespaces: int = 0
    """How many namespaces are there to be deleted."""

    async def __aenter__(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix="jobcast-chaos-"))
        self.lives: list[list[PublishedEvent]] = []
        """The stream's content before each data loss in Redis."""
        self.forgettings: list[Forgetting] = []
        self.truths: dict[str, Truth] = {}
        """What has happened so far, by the Job's name."""
        self.notes: list[str] = []
        """Errors that no figure counts."""
        self.keep_logs = False
        self.turns: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        """Faults with the same lock run one at a time: one may take longer than planned."""
        self._stack = contextlib.AsyncExitStack()
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def _start(self) -> None:
        stack = self._stack
        stack.callback(self._clean)
        if self.devcluster:
            await self._start_devcluster()
        access = await Access.find()
        namespace = f"chaos-{os.urandom(4).hex()}"
        self.bare = await stack.enter_async_context(Cluster(access, namespace))
        self.with_pods = await stack.enter_async_context(Cluster(access, f"{namespace}-pods"))
        self.doomed = [
            await stack.enter_async_context(Cluster(access, f"{namespace}-doomed-{number}"))
            for number in range(self.doomed_namespaces)
        ]
        self._namespaces = [cluster.namespace for cluster in (self.bare, self.with_pods, *self.doomed)]
        self.kubelet = Kubelet()
        self.redis = Valkey(self.folder)
        stack.push_async_callback(lambda: self.redis.close())
        await self.redis.up()
        self.doors = await stack.enter_async_context(RedisProxy((*PARTS, READER)))
        await self.doors.lead_to(self.redis.port)
        self.authority = Authority(self.folder)
        proxy = ApiProxy(access, (*PARTS, ELSEWHERE), self.kubelet, self.authority)
        self.api = await stack.enter_async_context(proxy)
        self.handled = self.folder / "handled"
        self.handled.mkdir()
        self.parts: dict[str, Part] = {}
        for name in PARTS:
            self.parts[name] = part = self._part(name)
            stack.push_async_callback(part.kill)
            part.start()
        await asyncio.gather(*(part.ready() for part in self.parts.values()))
        for part in self.parts.values():
            task = asyncio.create_task(part.keep_up(), name=part.name)
            stack.callback(task.cancel)
        self.reader = Reader(self._redis_url(READER))
        stack.push_async_callback(self.reader.stop)
        self.reader.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Exception):  # not when somebody ended us
            self.keep_logs = True
        await self._stack.aclose()

    async def replace_redis(self, server: Valkey) -> None:
        """`server` takes over, and the one before stops."""
        before, self.redis = self.redis, server
        await self.doors.lead_to(server.port)
        await before.close()
        before.empty()

    async def remember(self) -> None:
        """Keep the stream's content before Redis loses it. Nothing may write meanwhile."""
        self.lives.append(await looks.life(self.redis.client))

    def forgot(self, since: float, *, all_of_it: bool) -> None:
        """`all_of_it`: not only what it learnt from `since` on."""
        self.forgettings.append(Forgetting(since, time.monotonic(), all_of_it))

    async def known(self, uid: str, seconds: float) -> bool:
        return await until(lambda: looks.is_known(self.redis.client, uid), seconds)

    async def published(self, uid: str, seconds: float) -> bool:
        ends = {"completed", "failed", "cancelled"}
        return await until(lambda: self.reader.by_job.get(uid, set()) & ends, seconds)

    def _part(self, name: str) -> Part:
        kubeconfig = self.folder / f"{name}.kubeconfig"
        self.api.write_kubeconfig(name, self.bare.namespace, kubeconfig)
        environment = {
            **SETTINGS,
            **self.settings,
            "KUBECONFIG": str(kubeconfig),
            "REDIS_URL": self._redis_url(name),
            "NAMESPACES": ",".join(self._namespaces),
            "CHAOS_HANDLED": str(self.handled),
        }
        return Part(name, environment, self.folder)

    def _redis_url(self, name: str) -> str:
        return f"redis://127.0.0.1:{self.doors.doors[name].port}/0"

    async def _start_devcluster(self) -> None:
        kubeconfig = self.folder / "devcluster.kubeconfig"
        with (self.folder / "devcluster.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "devcluster", "--kubeconfig", str(kubeconfig)),
                stdout=log,
                stderr=log,
                cwd=ROOT,
                start_new_session=True,
            )

        async def end() -> None:
            process.terminate()
            await process.wait()

        self._stack.push_async_callback(end)
        if not await until(kubeconfig.exists, 30):
            raise TimeoutError("devcluster did not come up")
        os.environ["KUBECONFIG"] = str(kubeconfig)

    def _clean(self) -> None:
        if not self.keep_logs:
            shutil.rmtree(self.folder, ignore_errors=True)
