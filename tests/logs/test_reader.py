"""Reading logs: once, exactly, within limits, and never at another Job's cost."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from jobcast.event import Log
from jobcast.jobs.facts import LogRead
from jobcast.kube import Forbidden, KubeError, NotFound, Throttled, Unauthorized, Unreachable
from jobcast.logs import read, reader
from jobcast.logs.reader import LogReads, Wanted
from jobcast.logstore import open_log_store
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


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    yield without_pauses(monkeypatch)


@pytest.mark.must_survive(17)
@pytest.mark.parametrize("data", [b'{"a": 1}', b"\xff\xfe\x00 not UTF-8", b"", b"a\r\nb\x00\n"])
async def test_a_log_is_read_exactly(data: bytes) -> None:
    async with room(pod=[data]) as one:
        read = await one.read("pod")
        assert read.log == Log(
            state="complete", bytes=len(data), source="pod/main", sha256=hashlib.sha256(data).hexdigest()
        )
        assert read.output == data.decode(errors="replace")
        assert (one.done, one.seen) == (["job"], [read.log])


async def test_a_log_is_read_once_although_it_is_wanted_many_times() -> None:
    async with room(pod=[[b"a", b"b"]]) as one:
        assert [one.want("pod") for _ in range(5)] == [None] * 5
        assert (await one.read("pod")).output == "ab"
        assert one.want("pod") is one.want("pod")
        assert one.source.tries == ["pod"]


async def test_a_dropped_read_is_read_again_when_it_is_wanted() -> None:
    async with room(pod=[b"x"]) as one:
        await one.read("pod")
        one.reads.drop(wanted("pod").key)
        one.reads.drop(wanted("pod").key)
        assert one.want("pod") is None
        await one.read("pod")
        assert one.source.tries == ["pod", "pod"]


async def test_a_read_that_is_not_wanted_any_more_is_cancelled() -> None:
    async with room(pod=[asyncio.Event()]) as one:
        one.want("pod")
        await eventually(lambda: one.source.open)
        one.reads.drop(wanted("pod").key)
        await eventually(lambda: not one.source.open)
        assert one.done == []


@pytest.mark.must_survive(5)
async def test_a_throttled_read_is_retried_after_the_time_that_the_server_asks_for(waits: list[float]) -> None:
    async with room(pod=[Throttled("busy", code=429, retry_after=7.0), b"x"]) as one:
        assert (await one.read("pod")).output == "x"
        assert waits == [7.0]


@pytest.mark.must_survive(5)
@pytest.mark.parametrize(
    "error", [Throttled("x", code=503), Unreachable("x"), Throttled("x", code=429, retry_after=0.0)]
)
async def test_pauses_between_attempts_grow(error: KubeError, waits: list[float]) -> None:
    async with room(pod=[*[error] * 8, b"x"]) as one:
        await one.read("pod")
    assert len(waits) == 8
    assert min(waits) >= 0.1, "a hot loop"
    assert max(waits) <= 2.0
    assert waits[-1] > waits[0]


async def test_a_read_that_is_cut_continues_and_counts_nothing_twice() -> None:
    async with room(pod=[[b"one\nhal", b"cut"], b"one\nhalf and whole"]) as one:
        read = await one.read("pod")
        assert (read.output, read.log.bytes, read.log.state) == ("one\nhalf and whole", 18, "complete")
        assert one.source.requests[1]["sinceTime"] == "2026-11-20T10:00:00Z"


@pytest.mark.must_survive(6)
async def test_an_expired_token_costs_one_more_attempt() -> None:
    async with room(pod=[Unauthorized("expired", code=401), b"x"]) as one:
        assert (await one.read("pod")).output == "x"


@pytest.mark.must_survive(19)
@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (NotFound("pods x not found", code=404), "pod-gone"),
        (Forbidden("no", code=403), "refused"),
        (KubeError("odd", code=418), "refused"),
        (KubeError("previous terminated container not found", code=400), "container-gone"),
        ([Words(b"unable to retrieve container logs for containerd://abc")], "container-gone"),
        ([Words(b"failed to try resolving "), Words(b"symlinks in path x: lstat x: no such file")], "container-gone"),
        ([Words(b"no\n")], "container-gone"),
    ],
)
async def test_an_unavailable_log_has_a_reason(answer: Answer, reason: str) -> None:
    async with room(pod=[answer]) as one:
        read = await one.read("pod")
        assert (read.log.state, read.log.reason, read.log.source, read.output) == (
            "unavailable",
            reason,
            "pod/main",
            "",
        )
        assert len(one.source.tries) == (reader.MISSING_TRIES if reason == "container-gone" else 1)
        assert one.done == ["job"]


async def test_a_log_with_the_kubelets_error_in_its_middle_is_a_log() -> None:
    async with room(pod=[b"x\nunable to retrieve container logs for containerd://abc"], other=[b"y" * 600]) as one:
        assert (await one.read("pod")).log.state == "complete"


@pytest.mark.parametrize("log", [b"unable to retrieve container logs for x\nok\n", b"failed to open log file"])
async def test_a_program_may_print_what_the_kubelet_says(log: bytes) -> None:
    async with room(pod=[log]) as one:
        read = await one.read("pod")
        assert (read.output, read.log.state) == (log.decode(), "complete")


@pytest.mark.must_survive(38)
async def test_only_the_log_of_a_container_that_never_ran_is_one_that_never_started() -> None:
    waits = KubeError("container is waiting to start", code=400)
    async with room(pod=[waits], behind=[waits, waits, b"x"]) as one:
        one.reads.want(wanted("pod", has_started=False))
        assert (await one.read("pod")).log.reason == "never-started"
        assert (await one.read("behind")).output == "x", "the kubelet may be behind"


@pytest.mark.must_survive(38)
@pytest.mark.parametrize("kept", [b"", b"one\n", b"one\ntw"])
async def test_an_answer_that_ends_early_is_not_the_log(kept: bytes) -> None:
    whole = b"one\ntwo\nthree\n"
    async with room(pod=[kept, kept, whole]) as one:
        one.source.whole["pod"] = whole
        read = await one.read("pod")
        assert (read.output.encode(), read.log.state, read.log.sha256) == (
            whole,
            "complete",
            hashlib.sha256(whole).hexdigest(),
        )


@pytest.mark.must_survive(38)
async def test_a_log_whose_end_is_never_proved_is_truncated_and_read_no_more_than_so_often(
    monkeypatch: pytest.MonkeyPatch, waits: list[float]
) -> None:
    monkeypatch.setattr(reader, "LONGEST_READ_SECONDS", 0.05)
    async with room(pod=[b"one\n"]) as one:
        one.source.whole["pod"] = b"one\ntwo\n"
        read = await one.read("pod")
        assert (read.log.state, read.log.reason, read.output) == ("truncated", "unproved", "one\n")
    assert max(waits) > 0.5, "the pauses grow"


@pytest.mark.must_survive(38)
async def test_a_proof_costs_one_request() -> None:
    async with room(pod=[b"one\ntwo\n"]) as one:
        await one.read("pod")
        assert (len(one.source.tries), len(one.source.proofs)) == (1, 1)


@pytest.mark.must_survive(38)
async def test_a_followed_log_is_not_complete_before_its_container_has_ended() -> None:
    async with room(pod=[b"one\n", b"one\ntwo\n", b"one\ntwo\nthree\n"]) as one:
        one.reads.want(wanted("pod", follow=True))
        await eventually(lambda: len(one.source.proofs) >= 5)
        assert one.done == []
        assert {request["follow"] for request in one.source.requests if "tailLines" not in request} == {"True"}
        read = await one.read("pod")  # the container has ended
        assert (read.output, read.log.state) == ("one\ntwo\nthree\n", "complete")


@pytest.mark.must_survive(38, 19)
@pytest.mark.parametrize("gone", [NotFound("gone", code=404), [Words(b"unable to retrieve container logs for x")]])
async def test_a_followed_log_that_the_kubelet_drops_is_complete_if_that_was_proved_at_once(gone: Answer) -> None:
    async with room(pod=[b"one\n", gone], cut=[b"one\n", gone]) as one:
        one.source.whole["pod"] = b"one\n"
        one.source.whole["cut"] = b"one\ntwo\n"
        for pod in ("pod", "cut"):
            one.reads.want(wanted(pod, follow=True))
            await eventually(lambda pod=pod: len(one.source.tries) > 1)
        assert [(await one.read(pod)).log.state for pod in ("pod", "cut")] == ["complete", "truncated"]


@pytest.mark.must_survive(22, 40)
async def test_logs_of_running_containers_take_no_slot_from_those_of_ended_ones() -> None:
    let_go, names = asyncio.Event(), [f"pod{n}" for n in range(4)]
    chatty = {f"chatty{n}": [[b"one\n" for _ in range(9)]] for n in range(3)}
    async with room(concurrency=4, **chatty, **{name: [let_go] for name in names}) as one:
        for name in names:
            one.want(name)
        await eventually(lambda: one.source.open == 4)
        for name in chatty:
            one.reads.want(wanted(name, follow=True, ahead=True))
        await asyncio.sleep(0.3)
        assert one.source.open == 5, "one waits for each four slots, and the others are not requested"
        state = one.reads._states[wanted("chatty0").key]
        assert state.body is not None
        assert state.body.excerpt.size == 0
        let_go.set()
        for name in (*names, *chatty):
            await one.read(name)
    assert (one.reads._slots._value, one.reads._options.ahead._value) == (4, 1)


@pytest.mark.must_survive(18, 40)
async def test_an_event_whose_time_is_over_has_what_was_read_by_then() -> None:
    more = asyncio.Event()

    class Slow(FakeSource):
        async def _chunks(self, answer: Any, more_: Mapping[str, str]) -> AsyncIterator[bytes]:
            async for chunk in super()._chunks(answer, more_):
                yield chunk
            if "tailLines" not in more_:
                await more.wait()

    async with room(pod=[b"one\ntwo\n"]) as one:
        one.reads._source = Slow(pod=[b"one\ntwo\n"])
        key = wanted("pod").key
        assert one.reads.get_part(key, "timeout") is None
        one.reads.want(wanted("pod", follow=True, ahead=True))
        part = await eventually(lambda: one.reads.get_part(key, "timeout"))
        assert (part.output, part.log.state, part.log.reason, part.log.bytes) == (
            "one\ntwo\n",
            "truncated",
            "timeout",
            8,
        )
        more.set()
        assert (await one.read("pod")).log.state == "complete"


async def test_credentials_that_stay_wrong_are_reported() -> None:
    async with room(pod=[Unauthorized("no", code=401)]) as one:
        assert (await one.read("pod")).log.reason == "refused"


@pytest.mark.must_survive(22)
async def test_a_hanging_read_delays_its_own_job_only() -> None:
    async with room(hangs=[asyncio.Event()], other=[b"x"]) as one:
        assert one.want("hangs", "slow job") is None
        assert (await one.read("other")).output == "x"
        assert one.want("hangs", "slow job") is None
        assert one.done == ["job"]


@pytest.mark.must_survive(22)
async def test_a_read_that_never_ends_is_given_up_and_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "LONGEST_READ_SECONDS", 0.01)
    async with room(pod=[asyncio.Event()]) as one:
        read = await one.read("pod")
        assert (read.log.state, read.log.reason) == ("unavailable", "timeout")


async def test_no_more_reads_at_a_time_than_allowed() -> None:
    let_go = asyncio.Event()
    names = [f"pod{n}" for n in range(10)]
    async with room(concurrency=3, **{name: [let_go] for name in names}) as one:
        for name in names:
            one.want(name)
        await eventually(lambda: one.source.open == 3)
        for _ in range(20):
            await asyncio.sleep(0)
        assert one.source.open == 3
        let_go.set()
        for name in names:
            assert (await one.read(name)).output == "late"


@pytest.mark.must_survive(22)
async def test_reads_that_hang_give_their_slots_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "HANG_SECONDS", 0.01)
    let_go = asyncio.Event()
    async with room(concurrency=2, one=[let_go], two=[let_go], other=[b"x"]) as one:
        one.want("one")
        one.want("two")
        assert (await one.read("other")).output == "x"
        let_go.set()
        assert [(await one.read(name)).output for name in ("one", "two")] == ["late", "late"]
    assert one.reads._slots._value == 2, "a slot was lost, or released twice"


@pytest.mark.must_survive(34)
async def test_excerpts_held_for_unpublished_jobs_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "CACHED_BYTES", 1000)
    names = [f"pod{n}" for n in range(10)]
    async with room(concurrency=1, **{name: [b"x" * 300] for name in names}) as one:
        for name in names:
            one.want(name)
        await eventually(lambda: len(one.done) == 10)
        assert [name for name in names if one.want(name)] == names[-3:]
        for name in names:
            one.reads.drop(wanted(name).key)
        assert one.reads._cached_bytes == 0


class RedisIsDown:
    """In place of a Rotation, which asks Redis for the recorded first line."""

    def __init__(self) -> None:
        self.is_up = asyncio.Event()

    async def is_rotated(self, *_: Any, **__: Any) -> bool:
        await self.is_up.wait()
        return False

    def drop(self, *_: Any) -> None:
        pass


@pytest.mark.must_survive(24)
@pytest.mark.must_survive(34)
async def test_logs_that_wait_for_redis_keep_others_from_being_read_into_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(read, "HANG_SECONDS", 0.001)
    names = [f"pod{n}" for n in range(10)]
    async with room(concurrency=2, **{name: [b"x"] for name in names}) as one:
        one.reads.rotation = down = RedisIsDown()  # type: ignore[assignment]
        for name in names:
            one.want(name)
        await eventually(lambda: len(one.source.tries) == 2)
        await asyncio.sleep(0.02)  # many times as long as a read that hangs keeps its slot
        assert len(one.source.tries) == 2
        down.is_up.set()
        for name in names:
            assert (await one.read(name)).output == "x"
    assert one.reads._slots._value == 2


@pytest.mark.must_survive(34)
async def test_a_read_that_is_dropped_the_moment_it_ends_leaves_nothing_behind(tmp_path: Path) -> None:
    store = open_log_store(f"file://{tmp_path}", put=None, limit=0)  # type: ignore[arg-type]
    async with room(store=store, pod=[b"x"]) as one:
        one.want("pod")
        (state,) = one.reads._states.values()
        task = state.task
        assert task is not None
        while not task.done():
            await asyncio.sleep(0)
            if task.done() or state.read is not None:
                one.reads.drop(wanted("pod").key)
        one.reads.drop(wanted("pod").key)
        await eventually(lambda: one.reads.under_way == 0)
        assert not one.reads._states


async def test_one_log_larger_than_the_bound_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "CACHED_BYTES", 10)
    async with room(pod=[b"x" * 300]) as one:
        assert len((await one.read("pod")).output) == 300


@pytest.mark.must_survive(31)
async def test_reads_under_way_end_with_the_context() -> None:
    async with room(concurrency=1, hangs=[asyncio.Event()], waits=[b"x"]) as one:
        one.want("hangs")
        one.want("waits")
        await eventually(lambda: one.source.open)
    assert one.done == []
