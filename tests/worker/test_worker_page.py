"""docs/worker.md: every command in it is run, in its order, as a reader would."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from workers import ROOT, free_port

PAGE = ROOT / "docs" / "worker.md"
PORTS = ("6379", "6380", "8080", "8081")
"""As the page has them. Here each is another one, that nobody uses."""
LONGEST_SECONDS = 100.0


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def on_free_ports(page: str) -> tuple[str, dict[str, str]]:
    ports = {port: str(free_port()) for port in PORTS}
    return re.sub(r"\b(" + "|".join(PORTS) + r")\b", lambda found: ports[found[0]], page), ports


def run(commands: list[str], folder: Path, **env: str) -> str:
    """What they said. Fails with it at the first one that fails; ends what they left running."""
    log = folder / "page.log"
    script = "\n".join(["set -euo pipefail", *commands])
    with log.open("wb") as said:
        shell = subprocess.Popen(
            ["bash", "-c", script],
            cwd=folder,
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
    try:
        code = shell.wait(LONGEST_SECONDS)
    finally:
        end(shell.pid)
    assert code == 0, f"exit code {code}:\n{log.read_text()}"
    return log.read_text()


def end(group: int) -> None:
    """Of all that a shell has started: first asked, then made to."""
    for number, patience in ((signal.SIGTERM, 15.0), (signal.SIGKILL, 5.0)):
        try:
            os.killpg(group, number)
        except ProcessLookupError:
            return
        subprocess.run(
            ["timeout", str(patience), "bash", "-c", f"while kill -0 -- -{group}; do sleep 0.05; done"],
            capture_output=True,
        )


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Path]:
    """A folder that looks like a checkout, and may be written to."""
    for path in ROOT.iterdir():
        if path.name not in ("my", "kubeconfig", "scores.txt"):
            (tmp_path / path.name).symlink_to(path)
    yield tmp_path


def test_every_command_of_the_page_does_what_it_says(checkout: Path) -> None:
    page, ports = on_free_ports(PAGE.read_text())
    # Where the parts listen is a setting that the page leaves at its default.
    env = {
        "HTTP_PORT": ports["8080"],
        "WORKER_HTTP_PORT": ports["8081"],
        "HTTP_HOST": "127.0.0.1",
        "SWEEP_SECONDS": "0",
    }
    said = run(blocks(page, "sh"), checkout, **env)
    # A set: one of them was replayed.
    scores = {line.partition(" ")[2] for line in (checkout / "scores.txt").read_text().splitlines()}
    assert scores == {"eval-42 0 score 7", "eval-43 0 no score"}
    assert "'evaluation': 'eval-42'" in said  # what the app's task returned


@pytest.mark.parametrize("code", blocks(PAGE.read_text(), "python"))
def test_every_handler_of_the_page_can_be_registered(code) -> None:
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_every_route_of_the_page_can_be_read(tmp_path: Path, monkeypatch) -> None:
    from worker.settings import WorkerSettings

    (text,) = blocks(PAGE.read_text(), "yaml")
    (tmp_path / "routes.yaml").write_text(text)
    monkeypatch.setenv("ROUTES_FILE", str(tmp_path / "routes.yaml"))
    monkeypatch.setenv("ROUTES", "completed|failed=shop.invoice@billing")
    assert "`ROUTES=completed|failed=shop.invoice@billing`" in PAGE.read_text()
    monkeypatch.setenv("SHOP_BROKER_URL", "redis://there")
    monkeypatch.setenv("METADATA_LABELS", "pipeline,team")
    assert len(WorkerSettings().every_route) == 2


@pytest.mark.parametrize(
    "page", ["```sh\nfalse\necho on\n```\n", "```sh\ntrue\n```\n```sh\nfalse | cat\n```\n```sh\ntrue\n```\n"]
)
def test_a_page_with_a_command_that_fails_is_found(tmp_path: Path, page) -> None:
    with pytest.raises(AssertionError, match="exit code 1"):
        run(blocks(page, "sh"), tmp_path)
