"""The `log` subresource: which file, which part of it, or why not."""

from __future__ import annotations

import asyncio
import time

from aiohttp import web

from devcluster.clock import nano_stamp, parse
from devcluster.errors import ApiError, Obj, bad_request, invalid, not_found
from devcluster.logfile import LogFile
from devcluster.query import flag
from devcluster.scheme import NODES, PODS, Resource, Target
from devcluster.store import Store
from devcluster.stream import Stream

_OPTIONS = Resource("", "v1", "podlogoptions", "", "PodLogOptions", True)
TEXT = {"Content-Type": "text/plain"}
NODE = "devcluster"
"""The one whose logs are here."""


class Logs:
    """All logs on the node, by pod uid and container; the kubelet fills it, the server reads it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._files: dict[tuple[str, str], dict[str, LogFile]] = {}

    def add(self, pod_uid: str, container: str, log: LogFile, container_id: str = "") -> None:
        """A container (re)started. Its last log but one goes, as on a real node."""
        files = self._files.setdefault((pod_uid, container), {})
        files[container_id or f"by hand {len(files)}"] = log
        while len(files) > 2:
            files.pop(next(iter(files))).path.unlink(missing_ok=True)

    def forget(self, pod_uid: str) -> None:
        for key in [key for key in self._files if key[0] == pod_uid]:
            for log in self._files.pop(key).values():
                log.close()
                log.path.unlink(missing_ok=True)

    async def serve(self, stream: Stream, target: Target, query: dict[str, str]) -> web.StreamResponse:
        pod = self._store.get(PODS, target.namespace, target.name)
        if pod is None:
            raise not_found(PODS, target.name)
        options = Options(target.name, query)
        log = self._find(pod, options)
        # Before it has a node a Pod has no log and no one to ask: 204, which many a client takes for an empty log.
        await stream.open(200 if pod["spec"].get("nodeName") else 204, TEXT)
        if log is not None:
            await _send(stream, log, options)
        return await stream.close()

    def _find(self, pod: Obj, options: Options) -> LogFile | None:
        """The file to read, None for an empty answer; raises 400 in the server's words when there is none yet."""
        name, spec = pod["metadata"]["name"], pod["spec"]
        mains = [container["name"] for container in spec["containers"]]
        inits = [container["name"] for container in spec.get("initContainers") or []]
        wanted = options.container
        if not wanted:
            if len(mains) > 1 or (inits and len(mains) != 1):
                choices = f"choose one of: [{' '.join(mains)}]"
                if inits:
                    choices += f" or one of the init containers: [{' '.join(inits)}]"
                raise bad_request(f"a container name must be specified for pod {name}, {choices}")
            wanted = mains[0]
        if wanted not in (*mains, *inits):
            raise bad_request(f"container {wanted} is not valid for pod {name}")
        if not spec.get("nodeName"):
            return None
        self._check_node(pod)
        return self._of_container(pod, wanted, options.previous)

    def _check_node(self, pod: Obj) -> None:
        """Raises as a server does that cannot find, or reach, the kubelet. Logs that were written by hand need none."""
        node = pod["spec"]["nodeName"]
        if node == NODE or any(uid == pod["metadata"]["uid"] for uid, _ in self._files):
            return
        if self._store.get(NODES, "", node) is None:
            raise not_found(PODS, node)  # sic
        raise ApiError(500, "no preferred addresses found; known addresses: []")

    def _of_container(self, pod: Obj, container: str, previous: bool) -> LogFile | None:
        name = pod["metadata"]["name"]
        files = self._files.get((pod["metadata"]["uid"], container), {})
        statuses = [
            *(pod["status"].get("initContainerStatuses") or []),
            *(pod["status"].get("containerStatuses") or []),
        ]
        status = next((s for s in statuses if s["name"] == container), None)
        last = ((status or {}).get("lastState", {}).get("terminated") or {}).get("containerID", "")
        if previous:
            if len(files) < 2:
                raise bad_request(f'previous terminated container "{container}" in pod "{name}" not found')
            return files.get(last, list(files.values())[-2])
        state = status["state"] if status else {}
        if "waiting" in state and not (status or {}).get("lastState"):
            reason = state["waiting"].get("reason", "ContainerCreating")
            why = {
                "ErrImagePull": "image can't be pulled",
                "ImagePullBackOff": "trying and failing to pull image",
            }.get(reason, reason)
            raise bad_request(f'container "{container}" in pod "{name}" is waiting to start: {why}')
        # The one in the status, which may have been followed by another already.
        wanted = last if "waiting" in state else (status or {}).get("containerID", "")
        return files.get(wanted, list(files.values())[-1]) if files else None


class Options:
    """PodLogOptions from the query string; raises 422 when they make no sense."""

    def __init__(self, pod: str, query: dict[str, str]) -> None:
        self.container = query.get("container", "")
        self.previous = flag(query, "previous")
        self.follow = flag(query, "follow")
        self.timestamps = flag(query, "timestamps")
        self.tail = _number(pod, query, "tailLines", 0)
        self.limit = _number(pod, query, "limitBytes", 1)
        since = _number(pod, query, "sinceSeconds", 1)
        self.since = time.time() - since if since is not None else None
        if "sinceTime" in query:
            self.since = parse(query["sinceTime"])


def _number(pod: str, query: dict[str, str], name: str, least: int) -> int | None:
    if name not in query:
        return None
    if not query[name].lstrip("-").isdigit():
        raise bad_request(f'strconv.ParseInt: parsing "{query[name]}": invalid syntax')
    value = int(query[name])
    if value < least:
        bound = "must be greater than 0" if least else "must be greater than or equal to 0"
        raise invalid(_OPTIONS, pod, [("FieldValueInvalid", name, f"Invalid value: {value}: {bound}")])
    return value


async def _send(stream: Stream, log: LogFile, options: Options) -> None:
    """The selected part. `limitBytes` counts from where the tail begins: it keeps the tail's first bytes."""
    position = log.start
    if options.tail is not None:
        position = log.offset_of_tail(options.tail)
    if options.since is not None:
        position = max(position, log.offset_since(options.since))
    left = options.limit
    # At the beginning of a line; with the last parts of a long one the kubelet begins a new line, after a time it does not.
    fresh = options.since is None or log.begins_line(position)
    while True:
        end = log.size
        for block in log.blocks(position, end):
            data = block
            if options.timestamps:
                data, fresh = _stamped(log, position, block, fresh)
            position += len(block)
            if left is not None:
                data, left = data[:left], left - len(data)
            await stream.write(data)
            if left is not None and left <= 0:
                return
        if not options.follow or not await _more(stream, log, position):
            return


async def _more(stream: Stream, log: LogFile, position: int) -> bool:
    """Wait for the log to grow or end, listening to faults meanwhile."""
    grown = asyncio.ensure_future(log.grown(position))
    try:
        while not grown.done():
            woken = asyncio.ensure_future(stream.wake.wait())
            try:
                await asyncio.wait({grown, woken}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                woken.cancel()
            stream.wake.clear()
            await stream.suffer_strikes()
        return grown.result()
    finally:
        grown.cancel()


def _stamped(log: LogFile, position: int, block: bytes, fresh: bool) -> tuple[bytes, bool]:
    """Each line with its time in front."""
    out: list[bytes] = []
    for line in _lines(block):
        if fresh:
            out.append(nano_stamp(log.time_at(position)).encode() + b" ")
        out.append(line)
        position += len(line)
        fresh = line.endswith(b"\n")
    return b"".join(out), fresh


def _lines(block: bytes) -> list[bytes]:
    parts = block.split(b"\n")
    lines = [part + b"\n" for part in parts[:-1]]
    return [*lines, parts[-1]] if parts[-1] else lines
