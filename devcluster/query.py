"""Query strings, read as Go reads them. Pure."""

from __future__ import annotations

from collections.abc import Mapping


def flag(query: Mapping[str, str], name: str) -> bool:
    """Whatever is there and is not a denial is true: `watch`, `watch=1`, `watch=True`."""
    return name in query and query[name].lower() not in ("false", "0")
