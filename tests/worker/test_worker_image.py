"""Handlers in the shipped image: what it sets is done here in a folder, and what the example mounts is looked at."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from workers import ROOT, completed, free_port, tell, world

from tests.conftest import until

EXAMPLE = ROOT / "examples" / "handlers"


def instructions(dockerfile: Path, name: str) -> list[str]:
    return re.findall(rf"^{name} (.+)$", dockerfile.read_text(), re.MULTILINE)


def environment(dockerfile: Path) -> dict[str, str]:
    pairs = [pair.partition("=") for line in instructions(dockerfile, "ENV") for pair in line.split()]
    return {name: value for name, _, value in pairs}


def image(root: Path) -> tuple[Path, dict[str, str]]:
    """What the last stage of the Dockerfile makes of `root`: its working directory and its environment."""
    dockerfile = ROOT / "Dockerfile"
    for line in instructions(dockerfile, "COPY"):
        source, target = line.split()[-2:]
        if target.startswith("/app/") and not line.startswith("--from"):
            place = root / target[1:] / ("" if not target.endswith("/") else source)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(ROOT / source)
    (directory,) = instructions(dockerfile, "WORKDIR")
    variables = environment(dockerfile)
    variables["PYTHONPATH"] = ":".join(f"{root}{path}" for path in variables["PYTHONPATH"].split(":"))
    del variables["PATH"]  # python and its libraries are this machine's
    return root / directory[1:], variables


@contextmanager
def started(root: Path, url: str, **env: str) -> Iterator["subprocess.Popen[bytes]"]:
    folder, variables = image(root)
    (container,) = next(
        part["spec"]["template"]["spec"]["containers"]
        for part in yaml.safe_load_all((ROOT / "k8s" / "base" / "worker.yaml").read_text())
    )
    port = str(free_port())
    env = {
        **variables,
        "REDIS_URL": url,
        "SWEEP_SECONDS": "0",
        "HTTP_HOST": "127.0.0.1",
        "WORKER_HTTP_PORT": port,
        **env,
    }
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    with (root / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *container["command"]], cwd=folder, env={**inherited, **env}, stdout=log, stderr=log
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)
        print((root / "log").read_text())


def mounted(root: Path) -> dict[str, str]:
    """As the example's kustomization has it: its files at the place where the worker's Pod mounts them."""
    shown = subprocess.run(
        ["kubectl", "kustomize", EXAMPLE], capture_output=True, text=True, check=True, env=PATH
    ).stdout
    parts = {(part["kind"], part["metadata"]["name"]): part for part in yaml.safe_load_all(shown)}
    pod = parts["Deployment", "jobcast-worker"]["spec"]["template"]["spec"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    places = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    folder = root / places["handlers"][1:]
    folder.mkdir(parents=True)
    for name, text in parts["ConfigMap", volumes["handlers"]["configMap"]["name"]]["data"].items():
        (folder / name).write_text(text)
    (settings,) = pod["containers"][0]["envFrom"]
    return {"HANDLERS": parts["ConfigMap", settings["configMapRef"]["name"]]["data"]["HANDLERS"]}


def derived(root: Path) -> dict[str, str]:
    """As the example's Dockerfile has it."""
    for line in instructions(EXAMPLE / "Dockerfile", "COPY"):
        source, target = line.split()
        (root / target[1:]).mkdir(parents=True)
        (root / target[1:] / source).write_bytes((EXAMPLE / source).read_bytes())
    return environment(EXAMPLE / "Dockerfile")


PATH = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


@pytest.mark.parametrize("bring", [mounted, derived])
def test_the_shipped_image_runs_handlers_that_are_mounted_or_built_in(valkey, tmp_path: Path, bring) -> None:
    variables = bring(tmp_path)
    with world(valkey.url, "evaluation") as redis, started(tmp_path, valkey.url, **variables):
        event = completed("a")
        tell(valkey.url, "evaluation", event)
        assert until(lambda: redis.client.hgetall("scores")) == {event.id: "a 1"}
        until(lambda: redis.is_done)


def test_the_derived_image_stands_on_the_shipped_one() -> None:
    assert instructions(EXAMPLE / "Dockerfile", "FROM") == ["jobcast"]
    assert environment(EXAMPLE / "Dockerfile") == {"HANDLERS": "scoring"}
