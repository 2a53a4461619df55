"""No public text has a word that an operator would not search for, or that a reader who is no native speaker stumbles over."""

import ast
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import typer.main
import yaml
from prometheus_client.metrics import MetricWrapperBase

from controller import metrics as controller_metrics
from controller.settings import ControllerSettings
from jobcast.cli.app import app
from tests.docs.pages import ROOT, name
from tests.observability.queries import DASHBOARD, RULES
from worker import metrics as worker_metrics
from worker.settings import WorkerSettings

Texts = Iterator[tuple[str, str]]
"""Where a text stands, and the text."""

INSTEAD = {
    r"(un)?told|tell(s|ing)?": "publish, say, show, distinguish",
    r"hears?|heard": "receive, get, see",
    r"in vain": "fails, without success",
    r"who(m|ever)|whose turn": "name the person or the program",
    r"lest": "so that … not",
    r"(is|are|was|were|be) away": "unreachable, down",
    r"(is|are|was|were|be|comes?|came) back": "reachable again, works again",
    r"nobody('s)?": "no process, no person, nothing",
    r"troubles?|ailments?": "error, reason",
    r"strangers?": "untrusted input, another client",
    r"conveyor": "in-process transport",
    r"(?<!dead )(?<!dead-)letters?": "dead letter",
    r"bur(y|ies|ied)|set aside": "dead letter",
    r"harmless": "escaped, safe to repeat",
    r"aloft|lanes?|flights?": "in flight, sent, ordering key",
    r"mend(s|ed|ing)?": "fix",
    r"ow(e|es|ed|ing)|logbook": "pending upload, log index",
    r"heirs?|neighbourhoods?|misfits?": "successor, members, conflicts",
    r"fares?|dwells?|forsakes?|hitherto|thereof|whence|whither": "a plain word",
}
"""What must not occur, as a regular expression of whole words, and what to write in its place."""
LEVELS = ("debug", "info", "warning", "error", "exception", "critical")
GENERATED = ("settings.md", "metrics.md", "commands.md", "must-survive.md")


def pages() -> Texts:
    """Those that are written by hand."""
    at_the_top = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md"]
    elsewhere = sorted({*(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")})
    yield from _lines(path for path in (*at_the_top, *elsewhere) if path.name not in GENERATED)


def generated() -> Texts:
    reference = ROOT / "docs" / "reference"
    yield from _lines((ROOT / "docs").rglob(one).__next__() for one in GENERATED)
    yield from _lines([reference / "asyncapi.yaml", *sorted((reference / "schemas").glob("*.json"))])


def _lines(paths: Any) -> Texts:
    for path in paths:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            yield f"{name(path)}:{number}", line


def cli_help() -> Texts:
    yield from _help("jobcast", typer.main.get_command(app))


def _help(words: str, command: Any) -> Texts:
    yield words, f"{command.help or ''}\n{command.epilog or ''}"
    for one in command.params:
        yield f"{words} {one.name}", getattr(one, "help", None) or ""
    for word, inner in getattr(command, "commands", {}).items():
        yield from _help(f"{words} {word}", inner)


def settings() -> Texts:
    for model in (ControllerSettings, WorkerSettings):
        for field, about in model.model_fields.items():
            yield field.upper(), about.description or ""


def metrics() -> Texts:
    for module in (controller_metrics, worker_metrics):
        for one in vars(module).values():
            if isinstance(one, MetricWrapperBase | worker_metrics.Lags):
                for family in one.describe():
                    yield family.name, family.documentation


def log_texts() -> Texts:
    for folder in ("jobcast", "controller", "worker"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield from _logged(name(path), path.read_text())


def _logged(where: str, source: str) -> Texts:
    """The first argument of each call of a logger, also where it is one of two texts."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LEVELS:
            for part in ast.walk(node.args[0]) if node.args else ():
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    yield f"{where}:{part.lineno}", part.value


def alerts_and_dashboard() -> Texts:
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], " ".join(rule["annotations"].values())
    board = json.loads(DASHBOARD.read_text())
    yield "dashboard", board["description"]
    for panel in board["panels"]:
        yield panel["title"], f"{panel['title']} {panel.get('description', '')}"


SOURCES: list[Callable[[], Texts]] = [pages, generated, cli_help, settings, metrics, log_texts, alerts_and_dashboard]


def unwanted(texts: Texts) -> list[str]:
    return [
        f"{where}: {found[0]!r} (better: {instead}): {' '.join(text.split())[:160]}"
        for where, text in texts
        for words, instead in INSTEAD.items()
        if (found := re.search(rf"(?<![\w`/-])(?:{words})(?![\w`-])", text, re.IGNORECASE))
    ]


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.__name__)
def test_public_texts_use_the_words_that_operators_search_for(source: Callable[[], Texts]) -> None:
    texts = list(source())
    assert len(texts) > 15
    found = unwanted(iter(texts))
    assert not found, "\n".join(found)


def test_an_unwanted_word_is_found_wherever_it_stands() -> None:
    text = 'log.info("the Job was told", job=1)\nself._log.warning("a" if x else "Redis is away")\nlog.bind("told")'
    assert [line.partition(" (")[0] for line in unwanted(_logged("x.py", text))] == [
        "x.py:1: 'told'",
        "x.py:2: 'is away'",
    ]
    assert unwanted(iter([("", "a dead letter, published; the column `told`")])) == []
