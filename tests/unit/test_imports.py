"""No module of ours imports another that leads back to it, not even for its types."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("jobcast", "controller", "worker")
Imports = dict[str, set[str]]


def modules_of(root: Path) -> dict[str, Path]:
    found = {}
    for package in PACKAGES:
        for path in (root / package).rglob("*.py"):
            name = ".".join(path.relative_to(root).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


def imports_of(root: Path) -> Imports:
    """Of each module those that it names in an import, wherever in it: under TYPE_CHECKING and in functions, too."""
    modules = modules_of(root)
    return {name: set(_imported(path, modules)) - {name} for name, path in modules.items()}


def _imported(path: Path, modules: dict[str, Path]) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                if name in modules:
                    yield name
                elif node.module in modules:
                    yield node.module


def circles(imports: Imports) -> list[list[str]]:
    """The strongly connected modules, as Tarjan finds them."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in sorted(imports.get(name, ())):
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            at = stack.index(name)
            circle = stack[at:]
            del stack[at:]
            if len(circle) > 1:
                found.append(sorted(circle))

    for name in sorted(imports):
        if name not in index:
            visit(name)
    return found


def test_no_import_leads_back_to_its_module() -> None:
    imports = imports_of(ROOT)
    assert len(imports) > 100
    assert circles(imports) == []


def test_the_modules_of_the_worker_know_the_app_through_its_context_alone() -> None:
    imports = imports_of(ROOT)
    assert {name for name, others in imports.items() if "worker.app" in others} == {"worker.celery", "worker.steps"}


@pytest.mark.parametrize("how", ["import worker.b", "from worker import b", "from worker.b import x"])
def test_a_circle_is_found_although_it_is_for_types_alone(tmp_path: Path, how: str) -> None:
    (tmp_path / "worker").mkdir()
    (tmp_path / "worker" / "a.py").write_text(f"if TYPE_CHECKING:\n    {how}\n")
    (tmp_path / "worker" / "b.py").write_text("def f():\n    from worker.a import y\n")
    assert circles(imports_of(tmp_path)) == [["worker.a", "worker.b"]]
