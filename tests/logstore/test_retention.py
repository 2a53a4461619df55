"""Expired logs are removed from a folder, and nothing else."""

import os
import threading
import time
from pathlib import Path

import pytest

from jobcast.logstore import retention as room
from jobcast.logstore.base import LogPlace
from jobcast.logstore.objects import ObjectLogStore
from jobcast.logstore.retention import remove_expired, start_removing_expired
from tests.conftest import eventually

UID = "6f9d3b52-63a5-4a83-9a41-0d1d3f6a7c1"
DAY = 86_400.0


async def store_log(folder: Path, job: str, number: int, age: float) -> Path:
    """A log in the store, written `age` seconds ago."""
    store = ObjectLogStore(f"file://{folder}")
    upload = store.new_upload(LogPlace("evals", job, f"{UID}{number}", "pod", "main"))
    await upload.write(b"log")
    stored = Path((await upload.commit()).ref.removeprefix("file://"))
    await store.aclose()
    return aged(stored, age)


def aged(path: Path, age: float) -> Path:
    then = time.time() - age
    os.utime(path, (then, then))
    return path


def stray(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return aged(path, 30 * DAY)


async def test_old_logs_are_removed_with_their_directories_and_new_ones_stay(tmp_path: Path) -> None:
    old = await store_log(tmp_path, "a", 1, 8 * DAY)
    same_job = await store_log(tmp_path, "a", 2, 6 * DAY)
    await store_log(tmp_path, "b", 3, 8 * DAY)
    assert remove_expired(tmp_path, 7 * DAY) == 2
    assert not old.exists()
    assert same_job.read_bytes() == b"log"
    assert {path.name for path in (tmp_path / "evals").rglob("*")} == {"a", "main.0.log", "pod", f"{UID}2"}
    assert [path.name for path in tmp_path.iterdir()] == ["evals"], "the probe of its clock is gone"


async def test_the_incomplete_upload_of_a_killed_process_is_removed(tmp_path: Path) -> None:
    stored = await store_log(tmp_path, "a", 1, 0)
    left = stray(stored.with_name("main.1.log#1"))
    assert remove_expired(tmp_path, 7 * DAY) == 1
    assert not left.exists()
    assert stored.exists()


async def test_other_files_stay(tmp_path: Path) -> None:
    elsewhere = stray(tmp_path / "elsewhere" / "main.0.log")
    store = tmp_path / "logs"
    theirs = [
        stray(store / "evals" / "a" / f"{UID}1" / "pod" / "notes.txt"),
        stray(store / "evals" / "a" / "not-a-uid" / "pod" / "main.0.log"),
        stray(store / "evals" / "a" / f"{UID}1" / "main.0.log"),
        stray(store / "main.0.log"),
    ]
    (store / "evals" / "a" / f"{UID}2").mkdir()
    (store / "evals" / "a" / f"{UID}2" / "link").symlink_to(elsewhere.parent)
    assert remove_expired(store, 7 * DAY) == 0
    assert all(path.exists() for path in (*theirs, elsewhere))


async def test_a_log_can_be_stored_while_expired_ones_are_removed(tmp_path: Path) -> None:
    """Directories disappear while a writer needs them."""
    stop = threading.Event()

    def without_end() -> None:
        while not stop.is_set():
            remove_expired(tmp_path, 7 * DAY)

    thread = threading.Thread(target=without_end)
    thread.start()
    try:
        stored = [await store_log(tmp_path, f"job-{number}", number % 10, 0) for number in range(30)]
    finally:
        stop.set()
        thread.join()
    assert all(path.read_bytes() == b"log" for path in stored)


async def test_a_folder_that_hangs_delays_nothing_and_is_not_tried_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gate, asked = threading.Event(), []

    def hangs(folder: Path, max_age: float) -> int:
        asked.append(max_age)
        gate.wait()
        raise PermissionError("no")

    monkeypatch.setattr(room, "remove_expired", hangs)
    start_removing_expired(tmp_path, 1)
    await eventually(lambda: asked)
    start_removing_expired(tmp_path, 2)
    gate.set()
    await eventually(lambda: caplog.records)
    assert asked == [1]
    assert caplog.messages == ["expired logs cannot be removed"]
