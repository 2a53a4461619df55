"""Whatever bytes the API server, or a proxy in front of it, sends: no task ends, nothing hangs, and the good lines are read."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from controller import reflector
from controller.namespace import PodStore
from controller.reflector import Reflector, Source
from controller.store import Store
from controller.workqueue import Workqueue
from jobcast.jobs.decode import Reading
from jobcast.jobs.model import Job, Pod
from jobcast.kube import JOBS, PODS, Access, Api, Change, KubeError, Page, Resource, Unreachable
from jobcast.wire import UNREADABLE
from tests.property.odd import JOB, POD, SNIPPETS, chunks, grafted, odd, places
from tests.unit.objects import job_json, pod_json

READING = Reading()
BOOKMARK = {"type": "BOOKMARK", "object": {"kind": "Job", "metadata": {"resourceVersion": "9000"}}}
ERROR = {
    "type": "ERROR",
    "object": {"kind": "Status", "code": 410, "message": "old", "details": {"causes": [{"field": "x"}]}},
}
EVENTS = [{"type": "MODIFIED", "object": JOB}, {"type": "ADDED", "object": POD}, BOOKMARK]
SIZES = st.lists(st.integers(0, 700), max_size=30)


@pytest.fixture(scope="module", autouse=True)
def _no_pauses() -> Iterator[None]:
    """It is tried again at once: what is waited for is not what is tested here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reflector, "PAUSE_SECONDS", (0.0, 0.0))
        patch.setattr(reflector, "REFUSED_PAUSE_SECONDS", (0.0, 0.0))
        yield


class Bytes:
    """A server that answers each request with the next of these bodies, and then never again."""

    def __init__(self, *bodies: list[bytes]) -> None:
        self._bodies = list(bodies)
        self.asked: list[dict[str, str]] = []
        self.is_over = asyncio.Event()

    @contextlib.asynccontextmanager
    async def open(self, path: str, params: dict[str, str], **_: Any) -> AsyncIterator[Any]:
        self.asked.append(dict(params))
        if not self._bodies:
            self.is_over.set()
            await asyncio.Event().wait()
        body = self._bodies.pop(0)

        async def parts() -> AsyncIterator[bytes]:
            for part in body:
                if part:
                    yield part

        async def whole() -> bytes:
            return b"".join(body)

        yield SimpleNamespace(content=SimpleNamespace(iter_any=parts), read=whole)


def api_of(server: Bytes, skipped: list[str]) -> Api:
    api = Api(cast("Access", None), READING, skip=skipped.append)
    api._open = server.open  # type: ignore[method-assign,assignment]
    return api


def listed(*items: Any) -> bytes:
    return json.dumps({"metadata": {"resourceVersion": "100"}, "items": list(items)}).encode()


def good(number: int) -> bytes:
    """A line that is as it should be, of a Job of its own."""
    return json.dumps(
        {"type": "ADDED", "object": job_json(uid=f"u-{number}", name=f"good-{number}", version=200 + number)}
    ).encode()


class Seen:
    """A sink that takes note of the names."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def begin(self) -> None: ...

    async def page(self, items: list[Job]) -> None:
        self.names += [job.name for job in items]

    def end(self, version: str) -> None: ...

    def change(self, change: Change[Job]) -> None:
        assert change.object is not None
        self.names.append(change.object.name)


async def mirrored(resource: Resource[Any], server: Bytes, sink: Any, skipped: list[str]) -> Reflector[Any]:
    """A reflector that has read all there is; that it is alive is seen here."""
    mirror: Reflector[Any] = Reflector(Source(api_of(server, skipped), resource, "evals", ""), sink)
    running = asyncio.create_task(mirror.run())
    over = asyncio.create_task(server.is_over.wait())
    try:
        async with asyncio.timeout(60):
            await asyncio.wait([running, over], return_when=asyncio.FIRST_COMPLETED)
        assert not running.done(), running
    finally:
        over.cancel()
        running.cancel()
        await asyncio.gather(running, over, return_exceptions=True)
    return mirror


@pytest.mark.must_survive(8)
@settings(max_examples=150, deadline=None)
@given(lines=st.lists(st.one_of(*map(odd, EVENTS)), max_size=6), sizes=SIZES)
def test_the_good_lines_of_a_watch_are_read_whatever_lies_between_them(lines: list[bytes], sizes: list[int]) -> None:
    # An event that says ERROR ends a watch, as it should; here it is the odd lines that are to be passed over.
    lines = [line for line in lines if b'"ERROR"' not in line]
    data = b"".join(b"%s\n%s\n" % (line, good(number)) for number, line in enumerate(lines)) + good(99) + b"\n"
    skipped: list[str] = []
    sink = Seen()
    server = Bytes([listed()], chunks(data, sizes))
    asyncio.run(mirrored(JOBS, server, sink, skipped))
    wanted = [*(f"good-{number}" for number in range(len(lines))), "good-99"]
    assert [name for name in sink.names if name.startswith("good-")] == wanted
    others = len(sink.names) - len(wanted)
    assert others + len(skipped) <= len(lines), "nothing is counted that is not there"
    assert server.asked[-1]["resourceVersion"].isdecimal(), "it goes on from a version that a server takes"


@pytest.mark.must_survive(8)
@given(line=st.one_of(*map(odd, [*EVENTS, ERROR])) | st.binary(max_size=200))
@example(line=b'{"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "soon"}}}')
@example(line=b'{"type": "BOOKMARK", "object": {"metadata": {}}}')
def test_every_line_is_a_change_or_a_refusal_or_counted_once(line: bytes) -> None:
    for resource in (JOBS, PODS):
        skipped: list[str] = []
        try:
            change = cast("Resource[Any]", resource).change(line, READING, skipped.append)
        except KubeError:
            assert skipped == []
            continue
        assert len(skipped) == (change is None)
        if change is not None:
            assert change.version.isdecimal()


@pytest.mark.must_survive(8)
@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda snippet: repr(snippet[:20]))
def test_every_field_of_an_object_can_be_anything(snippet: bytes) -> None:
    """One by one, and all of them: what hypothesis draws is never all there is."""
    for resource, real in ((JOBS, JOB), (PODS, POD)):
        for at in range(len(places(real))):
            line = b'{"type": "MODIFIED", "object": %s}' % grafted(real, at, snippet)
            skipped: list[str] = []
            change = cast("Resource[Any]", resource).change(line, READING, skipped.append)
            assert len(skipped) == (change is None), line[:3000]


@pytest.mark.must_survive(8)
@settings(max_examples=100, deadline=None)
@given(items=st.lists(odd(JOB), min_size=1, max_size=5))
def test_the_good_items_of_a_list_are_read_whatever_lies_between_them(items: list[bytes]) -> None:
    """Items are JSON, else it is no list: what only an accident of bytes makes is another test's."""
    whole: list[bytes] = []
    for number, item in enumerate(items):
        with contextlib.suppress(*UNREADABLE):
            msgspec.json.decode(b"[%s]" % item, type=list[msgspec.Raw])
            whole += [item, json.dumps(job_json(uid=f"u-{number}", name=f"good-{number}")).encode()]
    body = b'{"metadata": {"resourceVersion": "7"}, "items": [' + b", ".join(whole) + b"]}"
    skipped: list[str] = []
    found = JOBS.page(body, READING, skipped.append)
    assert [job.name for job in found.items if job.name.startswith("good-")] == [
        f"good-{number}" for number in range(len(items)) if any(f'"good-{number}"'.encode() in item for item in whole)
    ]
    assert len(found.items) + len(skipped) == len(whole)


@pytest.mark.must_survive(8)
@settings(max_examples=100, deadline=None)
@given(body=odd({"metadata": {"resourceVersion": "7", "continue": ""}, "items": [JOB]}) | st.binary(max_size=100))
def test_a_list_that_is_none_is_asked_for_again_and_the_watch_goes_on_from_the_next(body: bytes) -> None:
    sink, skipped = Seen(), list[str]()
    # Where the first is a list after all, perhaps one with a further page, the second is that page, or is taken for a watch.
    server = Bytes([body], [listed(job_json(name="good"))], [listed(job_json(name="good"))])
    assert asyncio.run(mirrored(JOBS, server, sink, skipped)).status.lists >= 1
    assert server.asked[-1]["resourceVersion"].isdecimal()


async def pages_of(body: bytes) -> list[Page[Job]]:
    return [page async for page in api_of(Bytes([body]), []).pages(JOBS, "evals", "")]


@pytest.mark.must_survive(8)
@pytest.mark.parametrize("version", [b'"soon"', b'""', b'"-1"', b'"1 "', b'"' + b"9" * 5000 + b'"'])
async def test_a_list_without_a_version_to_watch_from_is_no_list(version: bytes) -> None:
    with pytest.raises(Unreachable, match="resourceVersion"):
        await pages_of(b'{"metadata": {"resourceVersion": %s}, "items": []}' % version)


@pytest.mark.must_survive(8)
@pytest.mark.parametrize("size", [64 * 1024, 1_000_003])
async def test_a_line_of_ten_megabytes_is_a_line_like_another(size: int) -> None:
    long = json.dumps({"type": "ADDED", "object": job_json(annotations={"x": "y" * 10_000_000}, name="long")}).encode()
    rubbish = b"z" * 10_000_000
    data = b"\n".join([long, rubbish, good(1), b""])
    sink, skipped = Seen(), list[str]()
    parts = chunks(data, [size] * (len(data) // size))
    await mirrored(JOBS, Bytes([listed()], parts), sink, skipped)
    assert sink.names == ["long", "good-1"]
    assert skipped == ["not_json"]


@pytest.mark.must_survive(8)
@settings(max_examples=100, deadline=None)
@given(
    items=st.lists(
        st.sampled_from(["ADDED", "MODIFIED", "DELETED"]).flatmap(lambda kind: odd({"type": kind, "object": POD})),
        max_size=8,
    )
)
def test_odd_pods_do_not_stop_the_watch_of_pods(items: list[bytes]) -> None:
    """Into the real store: what is read off them there must not raise either."""

    async def watched() -> Store:
        store = Store()
        store.put_job(JOBS.one(json.dumps(JOB).encode(), READING))
        sink = PodStore("evals", store, Workqueue())
        whole = json.dumps({"type": "ADDED", "object": pod_json(uid="good", version=900)}).encode()
        lines = [line for line in items if b'"ERROR"' not in line]
        await mirrored(PODS, Bytes([listed()], [b"\n".join([*lines, whole, b""])]), sink, [])
        return store

    store = asyncio.run(watched())
    (job,) = store.jobs()
    assert "good" in {pod.uid for pod in cast("tuple[Pod, ...]", store.pods(job.uid))}
