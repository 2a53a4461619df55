"""Reads of logs from a fake API server, without the pauses between attempts."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest

from jobcast.event import Log
from jobcast.jobs.facts import LogRead
from jobcast.kube import Unreachable
from jobcast.logs import reader
from jobcast.logs.reader import LogReads, Wanted
from jobcast.logstore.base import LogPlace, LogStore
from tests.conftest import eventually
from tests.logs.kubelet import entries, pieces, send


class Words(bytes):
    """An error message of the kubelet, which it sends in place of the log or of its rest."""


Answer = bytes | list[bytes] | BaseException | asyncio.Event


class FakeSource:
    """The API server's logs: for each Pod what its log is at each read; the last one repeats. `b"cut"` in a list ends the answer with
    an error, `b"end"` as if it was whole. Requests for the last lines are answered from `whole`, else from the last answer."""

    def __init__(self, **answers: list[Answer]) -> None:
        self.answers = answers
        self.whole: dict[str, Answer] = {}
        self.tries: list[str] = []
        """Reads, without the requests for the last lines."""
        self.proofs: list[str] = []
        self.asked: list[tuple[str, bool]] = []
        """Container, and whether its previous instance was requested."""
        self.requests: list[dict[str, str]] = []
        self.open = 0

    @asynccontextmanager
    async def log(
        self,
        namespace: str,
        pod: str,
        container: str,
        *,
        previous: bool = False,
        follow: bool = False,
        more: Mapping[str, str] = {},
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        self.requests.append({**more, "follow": str(follow)})
        is_proof = "tailLines" in more
        (self.proofs if is_proof else self.tries).append(pod)
        answers = self.answers[pod]
        answer = answers[min(max(self.tries.count(pod), 1), len(answers)) - 1]
        if is_proof:
            answer = self.whole.get(pod, answer)
        else:
            self.asked.append((container, previous))
        if isinstance(answer, BaseException):
            raise answer
        self.open += 1
        try:
            yield self._chunks(answer, more)
        finally:
            self.open -= 1

    async def _chunks(
        self, answer: bytes | list[bytes] | asyncio.Event, more: Mapping[str, str]
    ) -> AsyncIterator[bytes]:
        if isinstance(answer, asyncio.Event):
            await answer.wait()
            answer = b"late"
        parts = [answer] if isinstance(answer, bytes) else answer
        log = b"".join(part for part in parts if part not in (b"cut", b"end") and not isinstance(part, Words))
        for chunk in pieces(send(entries(log), more), [len(part) + 20 for part in parts]):
            yield chunk
        for part in parts:
            if isinstance(part, Words):
                yield part
            if part == b"cut":
                raise Unreachable("cut in the middle")


class Room:
    """A LogReads and the calls of its callbacks."""

    def __init__(self, source: FakeSource, reads: LogReads, done: list[str], seen: list[Log]) -> None:
        self.source, self.reads, self.done, self.seen = source, reads, done, seen

    def want(self, pod: str, job: str = "job") -> LogRead | None:
        return self.reads.want(wanted(pod, job))

    async def read(self, pod: str) -> LogRead:
        found: LogRead = await eventually(lambda: self.want(pod), timeout=2, every=0.001)
        return found


def wanted(pod: str, job: str = "job", **more: bool) -> Wanted:
    return Wanted(LogPlace("evals", "eval-42", job, pod, "main"), f"uid of {pod}", "42", **more)


@asynccontextmanager
async def room(
    concurrency: int = 4,
    excerpt_bytes: int = 1024,
    store: LogStore | None = None,
    store_seconds: float | None = 0.05,
    **answers: list[Answer],
) -> AsyncIterator[Room]:
    source, done, seen = FakeSource(**answers), [], []  # type: ignore[var-annotated]
    async with LogReads(
        source,
        excerpt_bytes=excerpt_bytes,
        concurrency=concurrency,
        done=done.append,
        seen=seen.append,
        store=store,
        store_seconds=store_seconds,
    ) as reads:
        yield Room(source, reads, done, seen)
    assert source.open == 0, "a response is left open"
    left = {task.get_name() for task in asyncio.all_tasks()} - {"redis guard"}
    assert not [name for name in left if name.startswith("log ")]


def without_pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between attempts, without the waits."""
    asked: list[float] = []
    sleep = asyncio.sleep

    async def no_sleep(seconds: float) -> None:
        asked.append(seconds)
        await sleep(0)

    class FakeAsyncio:
        def __getattr__(self, name: str) -> object:
            return no_sleep if name == "sleep" else getattr(asyncio, name)

    monkeypatch.setattr(reader, "asyncio", FakeAsyncio())
    return asked
