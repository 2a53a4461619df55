"""What is released: wheel and sdist, built without network, the wheel installed where nothing of the checkout is."""

import email
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from email.message import Message
from pathlib import Path

import pytest

from jobcast import __version__
from testbed.valkey import ValkeyServer
from tests.client.telling import event, telling_to

ROOT = Path(__file__).parents[2]
SITE = Path(sysconfig.get_path("purelib"))
NEEDED = ("redis", "msgspec")
"""All that a subscriber installs beside the wheel."""


def build(source: Path, folder: Path, target: str) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", str(folder)]
    subprocess.run(command, cwd=source, check=True, capture_output=True, text=True)
    (built,) = folder.glob("*.whl" if target == "wheel" else "*.tar.gz")
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, tmp_path_factory.mktemp("wheel"), "wheel")


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, tmp_path_factory.mktemp("sdist"), "sdist")


@pytest.fixture(scope="module")
def elsewhere(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that has the wheel, as pip installs it, and what a subscriber needs beside it."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    (packages,) = folder.glob("lib/python*/site-packages")
    for name in NEEDED:
        for path in (SITE / name, *SITE.glob(f"{name}-*.dist-info")):
            (packages / path.name).symlink_to(path)
    pip(python, "install", "--quiet", "--no-index", wheel)  # without --no-deps: pip sees that nothing is missing
    return python


def pip(python: Path, *arguments: str | Path) -> None:
    command = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check", *arguments]
    subprocess.run(command, check=True, capture_output=True, text=True)


def run(python: Path, folder: Path, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    """In a folder that is not the checkout."""
    return subprocess.run(
        [python, *arguments], cwd=folder, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"}
    )


def about(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as opened:
        return email.message_from_bytes(opened.read(f"jobcast-{__version__}.dist-info/METADATA"))


def test_the_wheel_carries_jobcast_alone_and_all_of_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as opened:
        names = set(opened.namelist())
    about = f"jobcast-{__version__}.dist-info"
    ours = {str(path.relative_to(ROOT)) for path in (ROOT / "jobcast").rglob("*") if path.suffix in (".py", ".lua")}
    files = {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}
    assert names == ours | {"jobcast/py.typed"} | {f"{about}/{name}" for name in files}


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    said = about(wheel)
    assert (said["Name"], said["Version"], said["Requires-Python"]) == ("jobcast", __version__, ">=3.11")
    assert (said["License-Expression"], said["License-File"]) == ("Apache-2.0", "LICENSE")
    always = [line for line in said.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert [line.partition(">")[0] for line in always] == ["msgspec", "redis"]
    assert "Typing :: Typed" in said.get_all("Classifier", [])


def test_the_sdist_has_what_the_wheel_is_built_of_and_builds_the_same(wheel: Path, sdist: Path, tmp_path: Path) -> None:
    with tarfile.open(sdist) as opened:
        opened.extractall(tmp_path, filter="data")
    source = tmp_path / f"jobcast-{__version__}"
    beside = {path.name for path in source.iterdir()}
    assert beside == {"jobcast", "pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", "PKG-INFO", ".gitignore"}
    assert build(source, tmp_path / "dist", "wheel").read_bytes() == wheel.read_bytes()


async def test_a_subscriber_with_the_wheel_alone_receives_an_end(
    elsewhere: Path, valkey: ValkeyServer, tmp_path: Path
) -> None:
    async with telling_to(valkey.url, "evaluation") as teller:
        await teller.tell(event("running"))
        await teller.tell(event("completed"))
    (tmp_path / "subscriber.py").write_text(
        "import jobcast, sys\n"
        "from jobcast.client import Client\n"
        "with Client(sys.argv[1]) as client:\n"
        "    end = client.wait('42', timeout=10)\n"
        "    entries = client.stream('scoring')\n"
        "    print(jobcast.__version__, end.status, end.exit_code, next(iter(entries)).event.status)\n"
    )
    result = run(elsewhere, tmp_path, "-W", "error", "subscriber.py", valkey.url)
    assert (result.stdout, result.stderr) == (f"{__version__} completed 0 running\n", "")
    where = run(elsewhere, tmp_path, "-c", "import jobcast; print(jobcast.__file__)").stdout
    assert where.startswith(str(elsewhere.parents[1]))


def test_the_command_is_there_and_says_what_it_lacks(elsewhere: Path, tmp_path: Path) -> None:
    result = run(elsewhere.parent / "jobcast", tmp_path, "watch")
    assert (result.returncode, result.stderr) == (
        2,
        "jobcast: typer is missing; the command needs: pip install 'jobcast[cli]'\n",
    )


def test_a_type_checker_sees_the_types(elsewhere: Path, tmp_path: Path) -> None:
    (tmp_path / "handlers.py").write_text(
        "from jobcast import on\n"
        "from jobcast.event import Completed\n"
        "@on('completed')\n"
        "def score(event: Completed) -> None:\n"
        "    reveal_type(event.exit_code)\n"
        "    event.exit_cod\n"
    )
    command = ["-m", "mypy", "--strict", "--python-executable", elsewhere, "--cache-dir", tmp_path / "cache"]
    result = run(Path(sys.executable), tmp_path, *command, "handlers.py")
    assert 'Revealed type is "int | None"' in result.stdout.replace("Union[int, None]", "int | None"), result.stdout
    assert '"Completed" has no attribute "exit_cod"' in result.stdout
    assert "Found 1 error" in result.stdout
