"""The shape of the product code: files that can be read in one sitting, functions at a glance, classes that hold few things."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PRODUCT = ("jobcast", "controller", "worker")
LONGEST_FILE = 400
LONGEST_FUNCTION = 60
MOST_ATTRIBUTES = 10
"""Of state, as `self.x = …` anywhere in the class; a struct's fields are data, and not counted."""

FILES = sorted(path for top in PRODUCT for path in (ROOT / top).rglob("*.py"))


def functions(tree: ast.AST) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            yield node.name, node.end_lineno - node.lineno + 1


def attributes(tree: ast.AST) -> Iterator[tuple[str, set[str]]]:
    for cls in ast.walk(tree):
        if isinstance(cls, ast.ClassDef):
            yield (
                cls.name,
                {
                    node.attr
                    for node in ast.walk(cls)
                    if isinstance(node, ast.Attribute)
                    and isinstance(node.ctx, ast.Store)
                    and isinstance(node.value, ast.Name)
                    and node.value.id == "self"
                },
            )


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_functions_and_classes_are_small(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    assert len(text.splitlines()) <= LONGEST_FILE
    assert [(name, length) for name, length in functions(tree) if length > LONGEST_FUNCTION] == []
    assert {name: sorted(found) for name, found in attributes(tree) if len(found) > MOST_ATTRIBUTES} == {}
