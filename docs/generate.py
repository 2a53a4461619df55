"""Writes the pages that are generated: docs/settings.md from the settings' models, docs/must-survive.md from the tests.

python docs/generate.py            write them
python docs/generate.py --check    fail when one of them is not current, or docs/guarantees.md names a test that there is not
"""

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from pydantic_core import PydanticUndefined

from controller.settings import ControllerSettings
from jobcast.settings import CoreSettings
from worker.settings import WorkerSettings

ROOT = Path(__file__).resolve().parent.parent
ROWS = ROOT / "docs" / "must-survive.txt"


def settings() -> str:
    lines = [
        "# Settings",
        "",
        "Read from the environment when a part starts. A wrong one ends it with exit code 2 and one line that says what",
        "would be right. Generated from the models by `make docs`.",
    ]
    core = CoreSettings.model_fields
    for title, model in (
        ("Controller and worker", CoreSettings),
        ("Controller", ControllerSettings),
        ("Worker", WorkerSettings),
    ):
        lines += ["", f"## {title}", "", "| name | default | meaning |", "| --- | --- | --- |"]
        for name, field in model.model_fields.items():
            if model is not CoreSettings and name in core:
                continue
            default = field.default
            shown = (
                "none"
                if default in (None, (), PydanticUndefined)
                else ",".join(default)
                if isinstance(default, tuple)
                else str(default)
            )
            lines.append(f"| `{name.upper()}` | `{shown}` | {field.description} |")
    return "\n".join(lines) + "\n"


def must_survive() -> str:
    proofs = _proofs()
    lines = [
        "# What a Job watcher must survive, and the test that proves it",
        "",
        "Each row happened to somebody. Generated from the tests' `must_survive` markers by `make docs`; a row without a",
        "test shows.",
        "",
        "| row | what | proved by |",
        "| --- | --- | --- |",
    ]
    for line in ROWS.read_text().splitlines():
        number, _, text = line.partition(" ")
        tests = "<br>".join(sorted(proofs[int(number)])) or "**not yet**"
        lines.append(f"| {number} | {text} | {tests} |")
    return "\n".join(lines) + "\n"


def _proofs() -> dict[int, set[str]]:
    proofs: dict[int, set[str]] = defaultdict(set)
    for name, rows in _tests():
        for row in rows:
            proofs[row].add(name)
    return proofs


def unknown_proofs() -> list[str]:
    """Tests that docs/guarantees.md names and that there are not."""
    known = {name for name, _ in _tests()}
    named = re.findall(r"^- (`[\w/]+\.py` [\w ]+)$", (ROOT / "docs" / "guarantees.md").read_text(), re.MULTILINE)
    return [name for name in named if name not in known]


def _tests() -> Iterator[tuple[str, set[int]]]:
    """Each test as the pages name it, and the rows that it proves."""
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        tree = ast.parse(path.read_text())
        everywhere = [row for node in tree.body if isinstance(node, ast.Assign) for row in _rows([node.value])]
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                words = node.name.removeprefix("test_").replace("_", " ")
                yield f"`{path.relative_to(ROOT / 'tests')}` {words}", {*everywhere, *_rows(node.decorator_list)}


def _rows(nodes: list[ast.expr]) -> list[int]:
    calls = [call for node in nodes for call in ast.walk(node) if isinstance(call, ast.Call)]
    marks = [call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr == "must_survive"]
    return [
        arg.value for call in marks for arg in call.args if isinstance(arg, ast.Constant) and isinstance(arg.value, int)
    ]


PAGES = {"settings.md": settings, "must-survive.md": must_survive}


def main() -> int:
    stale = []
    for name, make in PAGES.items():
        path, text = ROOT / "docs" / name, make()
        if path.exists() and path.read_text() == text:
            continue
        stale.append(name)
        if "--check" not in sys.argv:
            path.write_text(text)
    if "--check" in sys.argv and stale:
        print(f"not current: {', '.join(stale)}; run make docs", file=sys.stderr)  # noqa: T201
        return 1
    if unknown := unknown_proofs():
        print(f"docs/guarantees.md names tests that there are not: {'; '.join(unknown)}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
