"""What goes over the wire: golden files, and what is refused."""

from pathlib import Path
from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobcast.event import Artifact, Attempt, Event, JobRef, Log, Progress, Status
from jobcast.wire import MalformedEvent, decode, decode_progress, encode
from tests.golden.shapes import PROGRESS, SHAPES

GOLDEN = Path(__file__).parent.parent / "golden"


def golden(name: str) -> bytes:
    return (GOLDEN / f"{name}.json").read_bytes().removesuffix(b"\n")


@pytest.mark.parametrize("name", [*SHAPES, *PROGRESS])
def test_each_message_is_on_the_wire_as_in_its_golden_file(name: str) -> None:
    assert encode((SHAPES | PROGRESS)[name]) == golden(name)


@pytest.mark.parametrize("name", SHAPES)
def test_a_golden_file_reads_back_as_its_event(name: str) -> None:
    assert decode(golden(name)) == SHAPES[name]
    assert decode(golden(name).decode()) == SHAPES[name]


@pytest.mark.parametrize("name", PROGRESS)
def test_a_golden_file_reads_back_as_its_progress(name: str) -> None:
    assert decode_progress(golden(name)) == PROGRESS[name]
    assert decode_progress(golden(name).decode()) == PROGRESS[name]


def test_every_golden_file_has_its_shape_and_every_status_and_kind_a_file() -> None:
    assert {path.stem for path in GOLDEN.glob("*.json")} == {*SHAPES, *PROGRESS}
    assert {event.status for event in SHAPES.values()} == set(Status)
    assert {f"progress-{one.kind}" for one in PROGRESS.values()} == set(PROGRESS)
    assert {one.kind for one in PROGRESS.values()} == set(get_args(Progress.__annotations__["kind"]))


@pytest.mark.parametrize("name", SHAPES)
def test_an_event_of_an_earlier_version_is_still_read(name: str) -> None:
    """The stream and the records hold those that were published before an update."""
    earlier = msgspec.json.decode(golden(name))
    for attempt in earlier.get("attempts", ()):
        for field in ("container", "role", "message", "logs"):
            del attempt[field]
    if "log" in earlier:
        del earlier["log"]["instance"]
    for field in ("warnings", "container", "role", "artifacts"):
        earlier.pop(field, None)
    if earlier["status"] == "cancelled":
        del earlier["attempts"]
    event = decode(msgspec.json.encode(earlier))
    assert (event.status, event.id, event.warnings) == (SHAPES[name].status, SHAPES[name].id, [])


@pytest.mark.parametrize("name", SHAPES)
def test_fields_of_a_later_version_are_ignored(name: str) -> None:
    later = msgspec.json.decode(golden(name))
    later |= {"new": {"deep": [1]}}
    later["job"]["new"] = later["metadata"]["new"] = "x"
    for attempt in later.get("attempts", ()):
        attempt["new"] = None
    event = decode(msgspec.json.encode(later))
    assert event.status == SHAPES[name].status
    assert event.job == SHAPES[name].job


def test_the_page_about_events_names_every_field_and_shows_what_is_on_the_wire() -> None:
    page = (GOLDEN.parent.parent / "docs" / "events.md").read_text()
    for fields in (
        *map(msgspec.structs.fields, {type(event) for event in SHAPES.values()}),
        *map(msgspec.structs.fields, (Attempt, Log, JobRef, Artifact, Progress)),
    ):
        for field in fields:
            assert f"`{field.name}`" in page, field.name
    for name in ("running", "completed", "progress-attempt-ended"):
        assert golden(name).decode() in page


DEEP = b'{"status":"running","kind":' + b"[" * 100_000 + b"]" * 100_000 + b"}"


def without(field: str) -> bytes:
    fields = msgspec.json.decode(golden("completed"))
    del fields[field]
    return msgspec.json.encode(fields)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"hello",
        b'{"status":"running"}',
        golden("completed")[:-1],
        golden("completed") + b"x",
        golden("running").replace(b'"running"', b'"archived"'),
        golden("running").replace(b'"timestamp":1795168801.0', b'"timestamp":"soon"'),
        golden("completed").replace(b'"attempts":[', b'"attempts":null,"other":['),
        golden("completed").replace(b"score", b"\xff\xfe"),
        b'{"status":"\xff"}',
        without("id"),
        without("exit_code"),
        without("log"),
        pytest.param(DEEP, id="nested deeply"),
    ],
)
def test_what_is_not_an_event_is_refused_as_malformed(data: bytes) -> None:
    with pytest.raises(MalformedEvent):
        decode(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"{}",
        golden("running"),
        golden("progress-main-ended")[:-1],
        golden("progress-main-ended").replace(b'"main-ended"', b'"half-time"'),
        golden("progress-main-ended").replace(b"refused", b"\xff"),
        pytest.param(DEEP, id="nested deeply"),
    ],
)
def test_what_is_not_progress_is_refused_as_malformed(data: bytes) -> None:
    with pytest.raises(MalformedEvent):
        decode_progress(data)


@pytest.mark.parametrize("name", PROGRESS)
def test_progress_is_no_event(name: str) -> None:
    with pytest.raises(MalformedEvent):
        decode(golden(name))


@given(st.binary() | st.text().map(str.encode))
def test_no_bytes_raise_anything_but_malformed(data: bytes) -> None:
    for reads in (decode, decode_progress):
        with pytest.raises(MalformedEvent):
            reads(data)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_of_a_log_survives_the_wire(output: str) -> None:
    event: Event = msgspec.structs.replace(SHAPES["completed"], output=output)
    data = encode(event)
    assert decode(data) == event
    assert b"\n" not in data, "one event is one line"
