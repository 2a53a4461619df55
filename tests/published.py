"""What is published, held against the JSON Schemas in docs/reference/schemas. Each answer is where it is not as they say."""

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

SCHEMAS = Path(__file__).parents[1] / "docs" / "reference" / "schemas"
Schema = dict[str, Any]


@cache
def schema(name: str) -> Schema:
    found: Schema = json.loads((SCHEMAS / f"{name}.json").read_text())
    return found


def complaints(published: dict[str, Any]) -> list[str]:
    """Of an event, or of progress."""
    name = "progress" if "kind" in published else published["status"]
    return list(_complaints(name, published, schema(name)))


def complaints_of_hash(name: str, fields: dict[str, str]) -> list[str]:
    """Of the fields of a hash or of a stream's entry; JSON in them is looked into where the schema says how it looks."""
    whole = schema(name)
    found = list(_complaints(name, fields, whole))
    for field, value in fields.items():
        patterns = [of for pattern, of in whole.get("patternProperties", {}).items() if re.search(pattern, field)]
        for of in (*patterns, whole["properties"].get(field, {})):
            if "contentSchema" in of:
                inner = {"$defs": whole["$defs"], **of["contentSchema"]}
                found += _complaints(f"{name}.{field}", json.loads(value), inner)
    return found


def _complaints(name: str, published: Any, of: Schema) -> Iterator[str]:
    for error in _validator(json.dumps(of)).iter_errors(published):
        yield f"{name}: {error.json_path}: {error.message}"


@cache
def _validator(of: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads(of))
