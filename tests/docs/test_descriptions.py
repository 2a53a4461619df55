"""The schemas accept every published message, and reject one that lacks a field or has a field of another type."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from jobcast import __version__
from jobcast.event import Status
from jobcast.keys import Keys
from tests.published import SCHEMAS, complaints, complaints_of_hash, schema

ROOT = Path(__file__).parents[2]
GOLDEN = sorted((ROOT / "tests" / "golden").glob("*.json"))
ASYNCAPI = yaml.safe_load((ROOT / "docs" / "reference" / "asyncapi.yaml").read_text())
FREE = ("metadata",)
"""Objects whose keys are labels of the Job."""


def golden(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def places(published: Any, *before: str | int) -> Iterator[tuple[str | int, ...]]:
    """The way to each field of each object in it."""
    for key, value in (
        published.items()
        if isinstance(published, dict)
        else enumerate(published)
        if isinstance(published, list)
        else ()
    ):
        if isinstance(published, dict):
            yield (*before, key)
        if key not in FREE:
            yield from places(value, *before, key)


def at(published: Any, way: tuple[str | int, ...]) -> Any:
    for key in way:
        published = published[key]
    return published


@pytest.mark.parametrize("path", sorted(SCHEMAS.glob("*.json")), ids=lambda path: path.stem)
def test_every_schema_is_one(path: Path) -> None:
    Draft202012Validator.check_schema(json.loads(path.read_text()))


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_what_is_published_is_as_its_schema_says(path: Path) -> None:
    assert complaints(golden(path)) == []


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_a_field_that_is_missing_or_of_another_type_is_found(path: Path) -> None:
    published = golden(path)
    ways = list(places(published))
    assert len(ways) > 10
    for way in ways:
        if way in (("kind",), ("status",)):
            continue  # by which the schema is chosen
        missing = copy.deepcopy(published)
        del at(missing, way[:-1])[way[-1]]
        assert complaints(missing), f"{way} may be missing"
        other = copy.deepcopy(published)
        at(other, way[:-1])[way[-1]] = [0] if isinstance(at(published, way), dict) else {"x": 0}
        assert complaints(other), f"{way} may be anything"


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_a_field_that_a_later_version_adds_is_welcome(path: Path) -> None:
    published = golden(path)
    for way in [(), *places(published)]:
        of = at(published, way)
        if isinstance(of, dict) and way[-1:] != FREE:
            of["new"] = [None]
    assert complaints(published) == []


def test_a_record_is_looked_into() -> None:
    log = '{"state":"complete","reason":null,"bytes":1,"source":"p/c","ref":null,"sha256":null,"instance":0}'
    fields = {"status": "pending", "uid": "u", "namespace": "n", "name": "j", "created": "1.0", "log:p/c/0": log}
    assert complaints_of_hash("record", fields) == []
    assert complaints_of_hash("record", fields | {"log:p/c/0": "{}"})
    assert complaints_of_hash("record", fields | {"waiting": '{"reason":1}'})
    assert complaints_of_hash("record", fields | {"job:u": "running"})


def test_the_asyncapi_document_has_every_channel_and_both_streams_by_their_names() -> None:
    keys = Keys()
    defaults = {name: parameter["default"] for name, parameter in ASYNCAPI["components"]["parameters"].items()}
    found = {name: channel["address"].format(**defaults) for name, channel in ASYNCAPI["channels"].items()}
    assert found == {str(status): keys.channel(status) for status in Status} | {
        "progress": keys.progress,
        "events": keys.events,
        "dead": keys.dead,
    }
    assert ASYNCAPI["info"]["version"] == __version__


def test_every_reference_of_the_asyncapi_document_leads_somewhere_and_nothing_is_left_over() -> None:
    named = set(_references(ASYNCAPI))
    for reference in named:
        at(ASYNCAPI, tuple(reference.removeprefix("#/").split("/")))
    parts = {f"#/components/{kind}/{name}" for kind, of in ASYNCAPI["components"].items() for name in of}
    assert parts <= named


@pytest.mark.parametrize("status", [*Status, "progress"])
def test_the_asyncapi_document_says_what_the_schemas_say(status: str) -> None:
    (message,) = ASYNCAPI["channels"][status]["messages"].values()
    payload = at(ASYNCAPI, tuple(message["$ref"].removeprefix("#/").split("/")))["payload"]["$ref"]
    name = payload.rpartition("/")[2]
    alone = schema(status)
    there = json.loads(json.dumps(ASYNCAPI["components"]["schemas"]).replace("#/components/schemas/", "#/$defs/"))
    assert there[name] == {key: value for key, value in alone.items() if key not in ("$schema", "$id", "$defs")}
    assert alone["$defs"].items() <= there.items()


def _references(part: Any) -> Iterator[str]:
    for key, value in part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ():
        if key == "$ref":
            yield value
        else:
            yield from _references(value)
