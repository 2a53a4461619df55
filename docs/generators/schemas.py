"""JSON Schemas of everything that Jobcast publishes, from the types of jobcast/event.py. Docstrings of fields become descriptions.

They describe what this version writes: every field is required, whatever its default. Further fields are allowed, because later
versions may add some.
"""

import ast
import inspect
import re
from collections.abc import Iterable
from functools import cache
from typing import Any, get_args

import msgspec

from jobcast import event
from jobcast.jobs import progress as between

Schema = dict[str, Any]
DIALECT = "https://json-schema.org/draft/2020-12/schema"
EVENTS: dict[str, type] = {str(one.__struct_config__.tag): one for one in get_args(event.Event)}
"""By status."""
TIMES = re.compile(r"time|\w+_at")


def files() -> dict[str, Schema]:
    """By the name of the file, without its ending."""
    published = EVENTS | {"progress": event.Progress}
    return {
        name: _alone(name, described((one,), "#/$defs/{name}"), one.__name__) for name, one in published.items()
    } | {
        "dead-letter": _alone("dead-letter", {"DeadLetter": dead_letter()}, "DeadLetter"),
        "record": _alone("record", described((event.Attempt, event.Log, between.Waiting, between.Indexes)), record()),
    }


def described(types: Iterable[type], template: str = "#/$defs/{name}") -> dict[str, Schema]:
    """The schemas of these structs and of all that is in them, by name."""
    _, found = msgspec.json.schema_components(types, ref_template=template)
    return {name: _described(name, schema) for name, schema in sorted(found.items())}


def dead_letter() -> Schema:
    """An entry of the stream of dead letters. In Redis every field is a string."""
    return _fields(
        "An entry of `{prefix}:dead`: an event that a handler gave up on, and the reason.",
        {
            "entry": "The entry of the stream of events, or `replay:` and the entry of the stream of replays",
            "handler": "The handler that gave up; empty: no worker can read the entry",
            "reason": "The error, in one line",
            "traceback": "The end of the traceback, at most 8 KiB; empty if there is none",
            "tries": "Number of attempts, as text",
            "event": "The event as published, or the content that is no event",
        },
    )


def record() -> Schema:
    """The hash of an evaluation. In Redis every field is a string."""
    schema = _fields(
        "The hash `{prefix}:eval:<eval_id>`: the current state of an evaluation. Optional fields are left out.",
        {
            "status": "`pending`, or the status of the latest event",
            "uid": "The newest Job's uid",
            "namespace": "The newest Job's namespace",
            "name": "The newest Job's name",
            "created": "When the Job was created: Unix seconds, as text",
        },
    )
    schema["properties"] |= {
        "event": _json("The latest event, byte for byte as published; see the schema of its status", {}),
        "waiting": _json("Why a Pod cannot start", {"$ref": "#/$defs/Waiting"}),
        "started_at": {"type": "string", "format": "date-time", "description": "When a main container first ran"},
        "attempts": _json("While the Job is open", {"type": "array", "items": {"$ref": "#/$defs/Attempt"}}),
        "indexes": _json("Of an Indexed Job", {"$ref": "#/$defs/Indexes"}),
    }
    schema["patternProperties"] = {
        "^log:[^/]+/[^/]+/[0-9]+$": _json("`log:<pod>/<container>/<instance>`", {"$ref": "#/$defs/Log"}),
        "^job:": {
            "type": "string",
            "pattern": "^[0-9.]+ [a-z]+ [^/]+/[^/]+$",
            "description": "`job:<uid>`, each Job of the evaluation: `<created> <status> <namespace>/<name>`",
        },
    }
    return schema


def entry(event_schema: Schema) -> Schema:
    """An entry of the stream of events. In Redis every field is a string."""
    schema = _fields(
        "An entry of `{prefix}:events`.",
        {"id": "The event's id", "status": "The event's status", "eval_id": "The event's evaluation"},
    )
    schema["properties"]["event"] = _json("The event, byte for byte as published", event_schema)
    schema["required"].append("event")
    return schema


def _alone(name: str, parts: dict[str, Schema], main: Schema | str) -> Schema:
    """A document of its own, with the schemas that it uses in `$defs`."""
    others = dict(parts)
    schema = others.pop(main) if isinstance(main, str) else main
    head = {"$schema": DIALECT, "$id": f"urn:jobcast:{name}:v1"}
    return head | schema | ({"$defs": others} if others else {})


def _described(name: str, schema: Schema) -> Schema:
    """With the docstrings, with every field required, and without defaults: Jobcast leaves no field out."""
    words = _docstrings()
    properties = {}
    for field, kind in schema["properties"].items():
        found = {key: value for key, value in kind.items() if key != "default"}
        if field == "id":
            found["format"] = "uuid"
        elif TIMES.fullmatch(field):
            found["format"] = "date-time"
        text = words.get((name, field))
        properties[field] = found | ({"description": _in_json(text)} if text else {})
    text = schema.get("description") or words.get(("Status", name.upper()), "")
    return {
        "title": name,
        "description": _in_json(text),
        "type": "object",
        "properties": properties,
        "required": list(properties),
    }


def _in_json(text: str) -> str:
    return re.sub(r"\bNone\b", "null", " ".join(text.split()))


def _fields(what: str, fields: dict[str, str]) -> Schema:
    properties: Schema = {name: {"type": "string", "description": text} for name, text in fields.items()}
    return {"description": what, "type": "object", "properties": properties, "required": list(properties)}


def _json(what: str, schema: Schema) -> Schema:
    """Text that holds JSON."""
    return {"type": "string", "description": what, "contentMediaType": "application/json", "contentSchema": schema}


@cache
def _docstrings() -> dict[tuple[str, str], str]:
    """By class and field, those of its bases as well: a string below a field is its docstring."""
    found: dict[tuple[str, str], str] = {}
    for module in (event, between):
        for node in ast.parse(inspect.getsource(module)).body:
            if isinstance(node, ast.ClassDef):
                for base in node.bases:
                    found |= {
                        (node.name, field): text
                        for (of, field), text in found.items()
                        if isinstance(base, ast.Name) and of == base.id
                    }
                found |= {(node.name, field): text for field, text in _docstrings_of(node)}
    return found


def _docstrings_of(node: ast.ClassDef) -> Iterable[tuple[str, str]]:
    for before, after in zip(node.body, node.body[1:], strict=False):
        target: ast.expr | None = before.target if isinstance(before, ast.AnnAssign) else None
        if isinstance(before, ast.Assign):
            target = before.targets[0]
        if isinstance(target, ast.Name) and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            yield target.id, " ".join(str(after.value.value).split())
