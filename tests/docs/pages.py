"""The shell commands in README.md and on the pages, and which test runs each."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
GUIDES = [path for path in sorted((ROOT / "docs").rglob("*.md")) if not {"adr", "reference"} & set(path.parts)]
PAGES = [ROOT / "README.md", *GUIDES, *sorted((ROOT / "docs" / "reference").rglob("*.md"))]
"""In the order in which their commands run: an example of the reference makes another Job of the guides' evaluation."""
SHELL = ("sh", "bash", "shell", "console")
WHOLE = {
    "docs/worker.md": "tests/worker/test_worker_page.py",
    "docs/quick-start.md": "tests/e2e/test_quick_start.py",
}
"""Pages that a test of their own runs from top to bottom, as one script."""
ON_A_CLUSTER = {"README.md", "docs/operations/uninstall.md"}
"""Pages whose `kubectl` is for tests/e2e/test_pages.py."""
BUILD = "docker build -t jobcast:dev ."
"""CI builds the image with another tool, before the end-to-end tests."""
LAST = ROOT / "docs" / "operations" / "uninstall.md"
"""Runs last: it empties Redis."""
HELD = {
    "apiVersion": "batch/v1",
    "kind": "Job",
    "metadata": {"name": "my-job", "finalizers": ["jobcast.dev/outcome"]},
    "spec": {
        "suspend": True,
        "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "busybox"}]}},
    },
}
"""A Job with our finalizer, which uninstall.md removes."""


def left_over() -> list[str]:
    """The commands that no other test runs, page by page."""
    pages = [page for page in PAGES if name(page) not in WHOLE and page != LAST]
    found = [line for page in (*pages, LAST) for line in commands(page.read_text()) if line not in on_a_cluster(page)]
    return [line for line in dict.fromkeys(found) if not is_run_by_ci(line)]


def on_a_cluster(page: Path) -> list[str]:
    """Those that need a real one."""
    return [line for line in commands(page.read_text()) if name(page) in ON_A_CLUSTER and line.startswith("kubectl ")]


def is_run_by_ci(line: str) -> bool:
    """The build of the image; a target of make that `.ci/run` makes too, or what stands in its recipe."""
    if line == BUILD:
        return True
    ran = map(str.split, (ROOT / ".ci" / "run").read_text().splitlines())
    made = {words[1] for words in ran if words[:1] in (["make"], ["stage"])}
    makefile = (ROOT / "Makefile").read_text()
    command = line.partition("#")[0].strip()
    return (
        command.partition(" ")[2] in made
        if command.startswith("make ")
        else any(f"\n{target}: setup\n\t@$(BIN)/{command}\n" in makefile for target in made)
    )


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def commands(text: str) -> list[str]:
    """One a line, as a shell takes them, with what stands in `<<`. An indented block is a shell's; others say what they are."""
    return [command for block in _blocks(text) for command in _commands(block)]


def _blocks(text: str) -> list[str]:
    found, block, fence = [], list[str](), ""
    lines = text.splitlines()
    for number, line in enumerate(lines):
        opened = re.match(r"\s*(```+)(\w*)", line)
        if opened and not fence:
            fence = opened[2] or "text"
        elif opened:
            fence = ""
        elif (fence in SHELL) or (not fence and _is_indented(lines, number)):
            block.append(line)
            continue
        if block:
            found.append("\n".join(block))
            block = []
    return [*found, "\n".join(block)] if block else found


def _is_indented(lines: list[str], number: int) -> bool:
    """By four spaces, and not because it belongs to an item of a list."""
    if not lines[number].startswith("    "):
        return False
    before = [line for line in lines[:number] if line.strip() and not line.startswith("    ")]
    return not (before and re.match(r"\s*([-*]|\d+\.) ", before[-1]))


def _commands(block: str) -> list[str]:
    if "<<" in block:
        return [block]
    lines = re.sub(r"\\\n\s*", "", block).splitlines()
    return [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
