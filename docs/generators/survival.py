"""The page of what must be survived, from the marks of the tests; and whether the tests that a page names exist."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROWS = ROOT / "docs" / "must-survive.txt"


def page() -> str:
    proofs = _proofs()
    lines = [
        "# What a Job watcher must survive, and the test that proves it",
        "",
        "Every row has happened in production somewhere. `make docs` generates this page from the `must_survive` markers of the tests.",
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
    """Tests that docs/guarantees.md names but that do not exist."""
    known = {name for name, _ in _tests()}
    named = re.findall(r"^- (`[\w/]+\.py` [\w ]+)$", (ROOT / "docs" / "guarantees.md").read_text(), re.MULTILINE)
    return [name for name in named if name not in known]


def _tests() -> Iterator[tuple[str, set[int]]]:
    """Each test as the pages name it, with the rows that it proves."""
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
