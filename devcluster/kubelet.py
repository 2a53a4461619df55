"""The node: runs each Pod's containers as local processes and reports how they are."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from devcluster import podstatus
from devcluster.clock import stamp
from devcluster.errors import ApiError, Obj
from devcluster.events import Recorder
from devcluster.logfile import LogFile, Rotation
from devcluster.logs import NODE, Logs
from devcluster.memory import quantity
from devcluster.mounts import Mounts
from devcluster.podenv import argv_of, environment
from devcluster.podstatus import Container
from devcluster.process import Process, Warden
from devcluster.registry import TERMINAL_PHASES, Registry
from devcluster.scheme import PODS
from devcluster.store import Event, key_of

UNSCHEDULABLE = "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."
NO_SUCH_IMAGE = "does-not-exist"
"""An image with this in its name can never be pulled."""


TEAR_DOWN_SECONDS = 0.2
"""From the last container's end to the end of a Pod that was deleted while it ran, and with it of its logs. A real kubelet
takes a second or two: time enough for a reader who acts at once."""


@dataclass
class Settings:
    folder: Path
    backoff_seconds: float
    """Before the first delayed restart; a real kubelet takes 10. Doubles, up to thirty times as much."""
    notice_seconds: float
    """How long a change in a container goes unnoticed; a real kubelet looks once a second."""
    end_seconds: float
    """From the last container's end to the end of its Pod; a real kubelet takes one, and has said by then how it ended."""
    log_rotate_bytes: int | None
    log_rotate_seconds: float


class Kubelet:
    """Starts a runner for every Pod there is, and ends it when the Pod is gone."""

    def __init__(self, registry: Registry, logs: Logs, recorder: Recorder, settings: Settings) -> None:
        self.registry = registry
        self.logs = logs
        self.recorder = recorder
        self.settings = settings
        self.warden = Warden(settings.folder)
        self._runners: dict[str, Runner] = {}
        self._count = 0
        self._unsubscribe = registry.store.subscribe(self._notice)

    def _notice(self, event: Event) -> None:
        if event.resource is not PODS:
            return
        pod = event.new
        uid = pod["metadata"]["uid"]
        runner = self._runners.get(uid)
        if event.type == "ADDED" and pod["spec"].get("nodeName", NODE) == NODE:
            self._count += 1
            runner = self._runners[uid] = Runner(self, pod, f"10.244.{self._count >> 8 & 255}.{self._count & 255}")
            runner.task.add_done_callback(lambda _: self._runners.pop(uid, None))
        elif event.type == "DELETED":
            if runner:
                runner.task.cancel()
            else:
                self.clean(uid)
        elif runner and pod["metadata"].get("deletionTimestamp"):
            runner.deleted.set()

    def clean(self, uid: str) -> None:
        self.logs.forget(uid)
        shutil.rmtree(self.settings.folder / uid, ignore_errors=True)

    async def stop(self) -> None:
        """Kills everything that runs."""
        self._unsubscribe()
        runners = list(self._runners.values())
        for runner in runners:
            runner.task.cancel()
        await asyncio.gather(*(runner.task for runner in runners), return_exceptions=True)
        await self.warden.stop()


class Runner:
    """One Pod, from being scheduled to its end."""

    def __init__(self, kubelet: Kubelet, pod: Obj, ip: str) -> None:
        self._kubelet = kubelet
        self._settings = kubelet.settings
        self._pod = pod
        self._uid = pod["metadata"]["uid"]
        self._ip = ip
        self._folder = self._settings.folder / self._uid
        self._processes: dict[str, Process] = {}
        self._sidecars: list[asyncio.Task[bool]] = []
        self._one_started = asyncio.Event()
        """Set whenever a container was started, or could not be: what comes after a sidecar waits for it."""
        self._sandbox = False
        spec = pod["spec"]
        first = podstatus.INITIALIZING if spec.get("initContainers") else podstatus.WAITING
        self._inits = [
            Container(c, "sidecar" if c.get("restartPolicy") == "Always" else "init", first)
            for c in spec.get("initContainers") or []
        ]
        self._mains = [Container(c, "main", first) for c in spec["containers"]]
        self._containers = self._inits + self._mains
        self.deleted = asyncio.Event()
        """Set when somebody asked for the Pod to go."""
        self.task = asyncio.create_task(self._run(), name=f"pod {'/'.join(key_of(pod))}")

    async def _run(self) -> None:
        try:
            await asyncio.sleep(0)  # let the creator's write be seen before the scheduler's
            if not self._schedule():
                await self.deleted.wait()  # for ever: there will be no other node
                return
            self._report()
            life = asyncio.create_task(self._live())
            gone = asyncio.create_task(self.deleted.wait())
            try:
                await asyncio.wait({life, gone}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                gone.cancel()
                if not life.done():
                    life.cancel()
                    with suppress(asyncio.CancelledError):
                        await life
            if not life.cancelled():
                life.result()
            await self._end()
        finally:
            await self._kill_all()
            if self._kubelet.registry.store.get(PODS, *key_of(self._pod)) is None:
                self._kubelet.clean(self._uid)

    # What is told

    def _schedule(self) -> bool:
        """Bind the Pod to the one node there is; False when it asks for another."""
        wanted = self._pod["spec"].get("nodeSelector") or {}
        fits = wanted in ({}, {"kubernetes.io/hostname": NODE})

        def bind(pod: Obj) -> None:
            told: Obj = {"type": "PodScheduled", "status": "True" if fits else "False", "lastProbeTime": None}
            told["lastTransitionTime"] = stamp()
            if fits:
                pod["spec"]["nodeName"] = NODE
            else:
                told |= {"reason": "Unschedulable", "message": UNSCHEDULABLE}
            pod["status"]["conditions"] = [told]

        self._kubelet.registry.bind(self._pod, bind)
        if not fits:
            self._scheduler_event("Warning", "FailedScheduling", UNSCHEDULABLE)
            return False
        namespace, name = key_of(self._pod)
        self._scheduler_event("Normal", "Scheduled", f"Successfully assigned {namespace}/{name} to {NODE}")
        return True

    def _scheduler_event(self, type_: str, reason: str, message: str) -> None:
        self._kubelet.recorder.record(PODS, self._pod, type_, reason, message, "default-scheduler")

    def _report(self, *, phase: str = "", ended: str = "") -> None:
        """Write the status as it is now."""

        def edit(pod: Obj) -> None:
            last = pod["status"].get("phase", "Pending")
            now = phase or ("Running" if last == "Running" else podstatus.phase_of(self._containers))
            if ended and not phase:
                now = last  # the phase follows when everything is torn down
            if last in TERMINAL_PHASES:
                now = last
            pod["status"] = podstatus.status_of(
                pod, self._containers, phase=now, sandbox=self._sandbox, ended=ended, ip=self._ip
            )

        self._kubelet.registry.change(PODS, self._pod, edit, "status")

    def _event(self, type_: str, reason: str, message: str) -> None:
        self._kubelet.recorder.record(PODS, self._pod, type_, reason, message, "kubelet")

    # What is done

    async def _live(self) -> None:
        """Run all containers, in order, until none of the main ones will run again."""
        for container in self._inits:
            if container.role == "sidecar":
                await self._start_sidecar(container)
            elif not await self._run_to_end(container):
                return
        try:
            async with asyncio.TaskGroup() as group:
                for container in self._mains:
                    group.create_task(self._run_to_end(container))
        finally:
            for task in self._sidecars:
                task.cancel()

    async def _start_sidecar(self, container: Container) -> None:
        self._one_started.clear()
        self._sidecars.append(asyncio.create_task(self._run_to_end(container)))
        await self._one_started.wait()

    async def _run_to_end(self, container: Container) -> bool:
        """Until it ends for good, restarted as the policy says; whether it ended well."""
        policy = "Always" if container.role == "sidecar" else self._pod["spec"]["restartPolicy"]
        await self._pull(container)
        while True:
            code = await self._run_once(container)
            if policy == "Never" or ((policy == "OnFailure" or container.role == "init") and code == 0):
                self._report(ended=self._ended())
                return code == 0
            self._report()
            await self._back_off(container)
            container.last_state = container.state
            container.restarts += 1

    async def _pull(self, container: Container) -> None:
        image = container.spec["image"]
        if NO_SUCH_IMAGE not in image:
            self._event("Normal", "Pulled", f'Container image "{image}" already present on machine')
            return
        why = (
            f'failed to pull and unpack image "{image}": failed to resolve reference "{image}": '
            "pull access denied, repository does not exist or may require authorization"
        )
        delay = self._settings.backoff_seconds
        self._sandbox = True
        while True:
            self._event("Normal", "Pulling", f'Pulling image "{image}"')
            self._event("Warning", "Failed", f'Failed to pull image "{image}": {why}')
            self._event("Warning", "Failed", "Error: ErrImagePull")
            container.state = {"waiting": {"reason": "ErrImagePull", "message": why}}
            self._report()
            await asyncio.sleep(delay / 2)
            self._event("Normal", "BackOff", f'Back-off pulling image "{image}"')
            self._event("Warning", "Failed", "Error: ImagePullBackOff")
            message = f'Back-off pulling image "{image}": ErrImagePull: {why}'
            container.state = {"waiting": {"reason": "ImagePullBackOff", "message": message}}
            self._report()
            await asyncio.sleep(delay)
            delay = min(delay * 2, self._settings.backoff_seconds * 30)

    async def _run_once(self, container: Container) -> int:
        """One start of the process; leaves its end in the container's state."""
        container.id = f"containerd://{secrets.token_hex(32)}"
        self._sandbox = True
        rotation = Rotation(self._settings.log_rotate_bytes, self._settings.log_rotate_seconds)
        log = LogFile(self._folder / container.name / f"{container.restarts}.log", rotation)
        self._kubelet.logs.add(self._uid, container.name, log, container.id)
        mounts = Mounts(self._pod, container.spec, self._folder)
        mounts.prepare()
        container.last_words = lambda code: mounts.last_words(code, log)
        env = environment(self._pod, container.spec, self._ip, self._folder, mounts.local)
        argv = argv_of(container.spec, env)
        self._event("Normal", "Created", f"Created container: {container.name}")
        try:
            process = Process(argv, env, self._folder, log, self._kubelet.warden)
        except OSError as error:
            self._one_started.set()
            return self._cannot_start(container, argv, error)
        self._processes[container.name] = process
        started = time.time()
        container.state = {"running": {"startedAt": stamp(started)}}
        self._one_started.set()
        self._event("Normal", "Started", f"Started container {container.name}")
        code = await self._watch(process, container.spec)
        del self._processes[container.name]
        container.state = container.terminated(code, stamp(started))
        if process.out_of_memory:
            container.state["terminated"]["reason"] = "OOMKilled"
        return code

    async def _watch(self, process: Process, spec: Obj) -> int:
        """The exit code, once it has one and that is noticed; its running is reported unless it ends before."""
        limit = (spec["resources"].get("limits") or {}).get("memory")
        keeper = asyncio.create_task(process.keep_below(quantity(limit))) if limit else None
        wait = asyncio.ensure_future(process.wait())
        try:
            await asyncio.sleep(self._settings.notice_seconds)
            if not wait.done():
                self._report()
            return await wait
        finally:
            wait.cancel()
            if keeper:
                keeper.cancel()

    def _cannot_start(self, container: Container, argv: list[str], error: OSError) -> int:
        why = (
            "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create "
            f'failed: unable to start container process: exec: "{argv[0]}": {error.strerror}: unknown'
        )
        self._event("Warning", "Failed", f"Error: {why}")
        container.state = container.terminated(128, stamp(0))
        container.state["terminated"] |= {"reason": "StartError", "message": why}
        return 128

    async def _back_off(self, container: Container) -> None:
        """The first restart is at once, later ones wait."""
        if container.restarts == 0:
            return
        await asyncio.sleep(self._settings.notice_seconds)
        nominal = min(10 * 2 ** (container.restarts - 1), 300)
        namespace, name = key_of(self._pod)
        where = f"container={container.name} pod={name}_{namespace}({self._uid})"
        event = f"Back-off restarting failed container {container.name} in pod {name}_{namespace}({self._uid})"
        self._event("Warning", "BackOff", event)
        ended = container.state
        message = f"back-off {_duration(nominal)} restarting failed {where}"
        container.state = {"waiting": {"reason": "CrashLoopBackOff", "message": message}}
        container.last_state = ended
        self._report()
        await asyncio.sleep(nominal / 10 * self._settings.backoff_seconds)
        container.state = ended

    # How it ends

    def _ended(self) -> str:
        """PodCompleted or PodFailed when nothing runs nor will run; empty otherwise."""
        codes = [c.exit_code for c in self._mains]
        if any(c.role == "init" and c.exit_code not in (None, 0) for c in self._inits):
            return "PodFailed" if not self._processes else ""
        if None in codes or self._processes:
            return ""
        return "PodFailed" if any(codes) else "PodCompleted"

    async def _end(self) -> None:
        """Stop what still runs, say how it ended, and let a deleted Pod go."""
        grace = float(self._pod["spec"].get("terminationGracePeriodSeconds", 30))
        current = self._kubelet.registry.store.get(PODS, *key_of(self._pod))
        if current is not None and "deletionGracePeriodSeconds" in current["metadata"]:
            grace = float(current["metadata"]["deletionGracePeriodSeconds"])
        deadline = time.monotonic() + grace
        ended_by_itself = bool(self._ended())
        if not ended_by_itself:
            self._report()  # the new generation has been seen
        await self._stop([c for c in self._containers if c.role != "sidecar"], deadline)
        for sidecar in reversed([c for c in self._inits if c.role == "sidecar"]):
            await self._stop([sidecar], deadline)
        for container in self._containers:
            if "terminated" not in container.state:  # it waits, for its first start or for another
                container.state, container.last_state = container.last_state or podstatus.UNKNOWN, {}
        ended = "PodFailed" if any(c.exit_code for c in self._containers if c.role != "sidecar") else "PodCompleted"
        if ended_by_itself:
            self._report(ended=ended)
            await asyncio.sleep(self._settings.end_seconds)
        elif self.deleted.is_set():
            await asyncio.sleep(TEAR_DOWN_SECONDS)
        self._sandbox = False
        self._report(phase="Failed" if ended == "PodFailed" else "Succeeded", ended=ended)
        if self.deleted.is_set():
            with suppress(ApiError):
                options = {"gracePeriodSeconds": 0, "preconditions": {"uid": self._uid}}
                self._kubelet.registry.delete(PODS, *key_of(self._pod), options)

    async def _stop(self, containers: list[Container], deadline: float) -> None:
        """TERM, and KILL when the time is up."""
        running = [(c, self._processes[c.name]) for c in containers if c.name in self._processes]
        for container, process in running:
            self._event("Normal", "Killing", f"Stopping container {container.name}")
            process.signal(signal.SIGTERM)
        for container, process in running:
            try:
                code = await asyncio.wait_for(process.wait(), max(deadline - time.monotonic(), 0.001))
            except TimeoutError:
                process.signal(signal.SIGKILL)
                code = await process.wait()
            container.state = container.terminated(code, container.state.get("running", {}).get("startedAt"))
            self._processes.pop(container.name, None)

    async def _kill_all(self) -> None:
        for task in self._sidecars:
            task.cancel()
        for process in self._processes.values():
            process.signal(signal.SIGKILL)
        for process in list(self._processes.values()):
            await process.wait()


def _duration(seconds: int) -> str:
    """As Go writes it: 10s, 1m20s, 5m0s."""
    return f"{seconds}s" if seconds < 60 else f"{seconds // 60}m{seconds % 60}s"
