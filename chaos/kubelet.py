"""Answers requests for logs of Pods that no kubelet runs, as the API server would."""

import hashlib
import re
import zlib

from aiohttp import web

FIRST = "2026-01-01T00:00:00.000000000Z "
"""What stands before each line when its time is asked for."""
MOST_LINES = 400
_PATH = re.compile(r"/api/v1/namespaces/[^/]+/pods/([^/]+)/log")


class Kubelet:
    """A container's log is there from its start until its Pod is taken away."""

    def __init__(self) -> None:
        self._logs: dict[str, bytes] = {}
        """By the Pod's name: each has one container."""

    def start(self, pod: str) -> None:
        lines = zlib.crc32(pod.encode()) % MOST_LINES
        self._logs[pod] = b"".join(f"{pod} says {number}\n".encode() for number in range(lines))

    def remove(self, pod: str) -> None:
        self._logs.pop(pod, None)

    def sha256(self, pod: str) -> str:
        return hashlib.sha256(self._logs[pod]).hexdigest()

    def answer(self, request: web.Request) -> web.Response | None:
        """None for whatever is not the log of a Pod."""
        asked = _PATH.fullmatch(request.path)
        if asked is None:
            return None
        log = self._logs.get(asked[1])
        if log is None:
            return web.Response(status=404, text=f'pods "{asked[1]}" not found\n')
        if request.query.get("timestamps") == "true":
            log = b"".join(FIRST.encode() + line for line in log.splitlines(keepends=True))
        limit = request.query.get("limitBytes")
        return web.Response(body=log[: int(limit)] if limit else log, content_type="text/plain")
