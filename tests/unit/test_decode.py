"""From the API server's bytes: what is odd is skipped and counted, and affects nothing else."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobcast.jobs.model import Job, Pod
from jobcast.kube import JOBS, PODS, Change, Expired, KubeError, Throttled
from jobcast.kube import decode as decoding
from jobcast.kube.decode import Lines, Page
from tests.unit.objects import READING, job_json, pod_json, running_state


class Skips(list[str]):
    def __call__(self, reason: str) -> None:
        self.append(reason)


@pytest.fixture
def skips() -> Skips:
    return Skips()


def event(kind: str, item: Any) -> bytes:
    return json.dumps({"type": kind, "object": item}).encode()


def listed(*items: Any, **metadata: Any) -> bytes:
    return json.dumps({"kind": "JobList", "metadata": {"resourceVersion": "7", **metadata}, "items": items}).encode()


def page(body: bytes, skips: Skips) -> Page[Job]:
    return JOBS.page(body, READING, skips)


def change(line: bytes, skips: Skips) -> Change[Job] | None:
    return JOBS.change(line, READING, skips)


@pytest.mark.must_survive(7)
def test_a_page_has_its_version_and_the_way_to_the_next(skips: Skips) -> None:
    found = page(listed(job_json(name="a"), job_json(name="b"), **{"continue": "more"}), skips)
    assert ([job.name for job in found.items], found.version, found.next) == (["a", "b"], "7", "more")
    assert page(listed(), skips) == Page([], "7", "")


def test_a_page_without_items_is_empty(skips: Skips) -> None:
    assert page(b'{"metadata": {"resourceVersion": "7"}, "items": null}', skips).items == []


BAD = [
    {"metadata": {"uid": 5, "name": "n"}},
    {"metadata": {"uid": "u", "name": ""}},
    {"metadata": None},
    {"metadata": {"uid": "u", "name": "n", "resourceVersion": "x"}},
    {},
    [],
    "job",
    None,
    job_json(conditions=["odd"]),
]


@pytest.mark.must_survive(8)
@pytest.mark.parametrize("bad", BAD)
def test_a_bad_item_does_not_affect_the_others_of_its_page(bad: Any, skips: Skips) -> None:
    found = page(listed(job_json(name="a"), bad, job_json(name="b")), skips)
    assert ([job.name for job in found.items], found.version) == (["a", "b"], "7")
    assert skips == ["bad_object"]


def test_an_item_that_is_not_utf8_does_not_affect_the_others(skips: Skips) -> None:
    body = listed(job_json(name="a"), job_json(name="spoilt"), job_json(name="b")).replace(b"spoilt", b"\xff")
    assert [job.name for job in page(body, skips).items] == ["a", "b"]
    assert skips == ["bad_object"]


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b'{"items": []}', b'{"metadata": {}, "items": {}}', b'{"metadata"']
)
def test_what_is_no_list_at_all_is_an_error(body: bytes, skips: Skips) -> None:
    with pytest.raises(msgspec.DecodeError):
        page(body, skips)


@pytest.mark.parametrize("kind", ["ADDED", "MODIFIED", "DELETED"])
def test_a_change_has_its_type_version_and_object(kind: str, skips: Skips) -> None:
    found = change(event(kind, job_json(version=12345678901234)), skips)
    assert found is not None
    assert found.object is not None
    assert (found.type, found.version, found.object.version) == (kind, "12345678901234", 12345678901234)


@pytest.mark.must_survive(2)
def test_a_bookmark_moves_the_version_and_has_no_object(skips: Skips) -> None:
    # As Kubernetes 1.34 writes them, and one from before with its null.
    job = b"""{"type":"BOOKMARK","object":{"kind":"Job","apiVersion":"batch/v1","metadata":{"resourceVersion":"9479",
        "creationTimestamp":null},"spec":{"template":{"metadata":{},"spec":{"containers":null}}},"status":{}}}"""
    pod = b"""{"type":"BOOKMARK","object":{"kind":"Pod","apiVersion":"v1","metadata":{"resourceVersion":"9464",
        "creationTimestamp":null,"annotations":{"k8s.io/initial-events-end":"true"}},"spec":{"containers":null},"status":{}}}"""
    assert JOBS.change(job, READING, skips) == Change("BOOKMARK", "9479", None)
    assert PODS.change(pod, READING, skips) == Change("BOOKMARK", "9464", None)
    assert skips == []


@pytest.mark.must_survive(1)
def test_an_error_event_that_says_gone_is_expired(skips: Skips) -> None:
    status = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version: 1 (2)"}
    with pytest.raises(Expired, match="too old") as raised:
        change(event("ERROR", status), skips)
    assert (raised.value.code, raised.value.reason) == (410, "Expired")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ({"code": 500, "message": "etcd leader changed"}, Throttled),
        ({"code": 429, "details": {"retryAfterSeconds": 3}}, Throttled),
        ({"message": "no code"}, KubeError),
        ({}, KubeError),
        ([], Throttled),
        ("text", Throttled),
        ({"code": "410"}, Throttled),
    ],
)
def test_an_error_event_is_always_an_error(status: Any, kind: type[KubeError], skips: Skips) -> None:
    with pytest.raises(kind):
        change(event("ERROR", status), skips)


@pytest.mark.must_survive(8)
@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"garbage", "not_json"),
        (b'{"type": "MODIFIED", "object": {"metadata": {"na', "not_json"),
        (b"\xff\xfe", "not_json"),
        (b'{"type": "MODIFIED", "object": {"metadata": {"uid": "u", "name": "\xff"}}}', "bad_object"),
        (b"[]", "not_json"),
        (b"null", "not_json"),
        (b'{"type": "MODIFIED"}', "not_json"),
        (event("SHINY", job_json()), "unknown_type"),
        (event("SHINY", 5), "unknown_type"),
        (event("MODIFIED", 5), "bad_object"),
        (event("MODIFIED", {}), "bad_object"),
        *((event("MODIFIED", bad), "bad_object") for bad in BAD),
    ],
)
def test_a_line_that_makes_no_sense_is_skipped_and_counted(line: bytes, reason: str, skips: Skips) -> None:
    assert change(line, skips) is None
    assert skips == [reason]


def test_pods_are_decoded_alike(skips: Skips) -> None:
    found = PODS.change(event("ADDED", pod_json(running_state())), READING, skips)
    assert found is not None
    assert isinstance(found.object, Pod)
    assert PODS.page(listed(pod_json(), 5), READING, skips).items[0].name == "eval-42-abcde"


def test_paths_are_those_of_the_api_server() -> None:
    assert JOBS.path("evals") == "/apis/batch/v1/namespaces/evals/jobs"
    assert PODS.path(None) == "/api/v1/pods"


@given(
    texts=st.lists(st.text(alphabet=st.characters(exclude_characters="\n", codec="utf-8"), max_size=30), max_size=12),
    cuts=st.lists(st.integers(0, 40), max_size=30),
)
def test_lines_are_found_wherever_the_bytes_are_split(texts: list[str], cuts: list[int]) -> None:
    data = b"".join(text.encode() + b"\n" for text in texts)
    lines, found, at = Lines(), [], 0
    for cut in [*cuts, len(data)]:
        found += lines.feed(data[at : at + cut])
        at += cut
    assert [line.decode() for line in found] == texts
    assert not lines.is_cut


def test_what_is_left_without_a_line_end_is_a_cut_line() -> None:
    lines = Lines()
    assert lines.feed(b"one\ntw") == [b"one"]
    assert lines.is_cut
    assert lines.feed(b"o\n") == [b"two"]
    assert not lines.is_cut


def test_a_line_without_end_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "MAX_LINE_BYTES", 1000)
    lines = Lines()
    with pytest.raises(ValueError, match="1000"):
        for _ in range(100):
            lines.feed(b"x" * 100)


@pytest.mark.must_survive(8)
def test_a_line_that_is_nested_without_end_is_skipped(skips: Skips) -> None:
    deep = b"[" * 100_000 + b"]" * 100_000
    assert change(b'{"type": "MODIFIED", "object": ' + deep + b"}", skips) is None
    assert skips == ["not_json"]
