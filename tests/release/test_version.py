"""The version is in one place, jobcast/__init__.py; whoever shows it has it from there."""

import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner

from jobcast import __version__
from jobcast.cli.app import app

ROOT = Path(__file__).parents[2]
NOT_INSTALLED = """
import importlib.metadata

def version(name):
    raise importlib.metadata.PackageNotFoundError(name)

importlib.metadata.version = version
"""
"""As in the image, where our own packages are folders on the path."""


def test_the_worker_knows_the_version_of_a_jobcast_that_is_not_installed() -> None:
    code = f"{NOT_INSTALLED}\nimport worker.metrics, prometheus_client\nprint(prometheus_client.generate_latest().decode())"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert f'jobcast_build_info{{version="{__version__}"}} 1.0' in said


def test_the_command_says_its_version() -> None:
    said = CliRunner().invoke(app, ["--version"])
    assert (said.exit_code, said.output) == (0, f"jobcast {__version__}\n")


def test_the_image_is_built_with_the_version() -> None:
    said = subprocess.run(["make", "--dry-run", "image"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert 'org.opencontainers.image.version="$VERSION"' in (ROOT / "Dockerfile").read_text()
    assert f"docker build --tag jobcast:{__version__} --build-arg VERSION={__version__} --build-arg REVISION=" in said
