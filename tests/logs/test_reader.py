"""Reading a log: exactly, to its proved end, and with a reason if it is not whole."""

import hashlib
from collections.abc import Iterator

import pytest

from jobcast.event import Log
from jobcast.kube import Forbidden, KubeError, NotFound, Throttled, Unauthorized, Unreachable
from jobcast.logs import reader
from tests.conftest import eventually
from tests.logs.room import Answer, Words, room, wanted, without_pauses


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


async def test_credentials_that_stay_wrong_are_reported() -> None:
    async with room(pod=[Unauthorized("no", code=401)]) as one:
        assert (await one.read("pod")).log.reason == "refused"
