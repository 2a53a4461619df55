"""Answers requests for logs of Pods that no kubelet runs, as the API server would."""

import asyncio
import hashlib
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from aiohttp import web

MOST_LINES = 400
_PATH = re.compile(r"/api/v1/namespaces/[^/]+/pods/([^/]+)/log")


def stamp(number: int) -> str:
    """What stands before the line of this number when its time is asked for."""
    return f"2026-01-01T00:00:{number // 1000:02}.{number % 1000:03}000000Z "


@dataclass(eq=False)
class _Log:
    lines: list[bytes]
    has_ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def printed(self) -> int:
        """How many lines there are: a third of them comes with the end."""
        return len(self.lines) if self.has_ended.is_set() else len(self.lines) - len(self.lines) // 3


class Kubelet:
    """A container's log is there from its start until its Pod is taken away, and whole from its end."""

    def __init__(self) -> None:
        self.skew = 0.0
        """Seconds by which the nodes' clocks are ahead of the control plane's."""
        self.is_early = False
        """Pods of a resumed Job run before its startTime is written, as behind a Job controller that makes many."""
        self._logs: dict[str, _Log] = {}
        """By the Pod's name: each has one container."""
        self._cuts = 0

    def start(self, pod: str) -> None:
        lines = zlib.crc32(pod.encode()) % MOST_LINES
        self._logs[pod] = _Log([f"{pod} says {number}\n".encode() for number in range(lines)])

    def end(self, pod: str) -> None:
        self._logs[pod].has_ended.set()

    def remove(self, pod: str) -> None:
        if (log := self._logs.pop(pod, None)) is not None:
            log.has_ended.set()

    def log(self, pod: str) -> bytes:
        """All that it will have printed."""
        return b"".join(self._logs[pod].lines)

    def sha256(self, pod: str) -> str:
        return hashlib.sha256(self.log(pod)).hexdigest()

    async def answer(
        self, request: web.Request, is_cut: Callable[[], bool] = lambda: False
    ) -> web.StreamResponse | None:
        """None for whatever is not the log of a Pod. While `is_cut`, the way to the kubelet breaks in the middle of each log: the
        API server ends such an answer as if it were whole."""
        asked = _PATH.fullmatch(request.path)
        if asked is None:
            return None
        log = self._logs.get(asked[1])
        if log is None:
            return web.Response(status=404, text=f'pods "{asked[1]}" not found\n')
        body, printed = _selected(log, request.query), log.printed
        if not is_cut() and request.query.get("follow") != "true":
            return web.Response(body=body, content_type="text/plain")
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        if is_cut():
            await response.write(self._half(body))
        else:
            await response.write(body)
            while not log.has_ended.is_set() and not is_cut():
                await asyncio.sleep(0.05)
            if not is_cut():
                await response.write(b"".join(_stamped(log, request.query)[printed : log.printed]))
        await response.write_eof()
        return response

    def _half(self, body: bytes) -> bytes:
        """Every other time it breaks between two lines, where nothing shows it."""
        self._cuts += 1
        half = body[: len(body) // 2]
        return half[: half.rfind(b"\n") + 1] if self._cuts % 2 else half


def _stamped(log: _Log, query: Mapping[str, str]) -> list[bytes]:
    if query.get("timestamps") != "true":
        return log.lines
    return [stamp(number).encode() + line for number, line in enumerate(log.lines)]


def _selected(log: _Log, query: Mapping[str, str]) -> bytes:
    """As PodLogOptions say: the limit counts from where the tail begins."""
    first = 0
    if since := query.get("sinceTime"):
        # Our stamps are of one length, and the cluster compares whole moments.
        first = sum(stamp(number).strip() < _nanoseconds(since) for number in range(log.printed))
    if tail := query.get("tailLines"):
        first = max(first, log.printed - int(tail))
    body = b"".join(_stamped(log, query)[first : log.printed])
    limit = query.get("limitBytes")
    return body[: int(limit)] if limit else body


def _nanoseconds(moment: str) -> str:
    """RFC 3339 with nine digits, so that it compares as text."""
    whole, _, part = moment.removesuffix("Z").partition(".")
    return f"{whole}.{part:0<9}Z"
