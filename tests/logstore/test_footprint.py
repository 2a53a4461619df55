"""The cost of the log store: imports where it is not used, memory where it is."""

import subprocess
import sys
from pathlib import Path

import pytest


def run(code: str, *arguments: str) -> str:
    command = [sys.executable, "-W", "error", "-c", code, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def test_importing_it_imports_nothing_that_a_subscriber_may_lack() -> None:
    heavy = '{"obstore", "zstandard", "pydantic", "aiohttp"}'
    modules = "base, circuit, fetch, objects, probe, redis, uploader, urls"
    assert run(f"import sys; from jobcast.logstore import {modules}; print({heavy} & set(sys.modules))") == "set()\n"


def test_without_its_extra_it_says_what_to_install(tmp_path: Path) -> None:
    out = run(
        """
import sys
sys.modules["obstore"] = sys.modules["zstandard"] = sys.modules["compression"] = None
from jobcast.logstore import check_store
from jobcast.logstore.fetch import decompress, read_object
for call in (lambda: check_store("s3://bucket"), lambda: next(read_object("s3://bucket/x")), lambda: decompress(b"")):
    try:
        call()
    except (ValueError, ImportError) as error:
        print(type(error).__name__, error)
"""
    )
    assert out.splitlines() == [
        "ValueError obstore is missing; object stores need: pip install 'jobcast[archive]'",
        "ImportError obstore is missing; object stores need: pip install 'jobcast[archive]'",
        "ImportError zstandard is missing; whole logs need: pip install 'jobcast[archive]'",
    ]


GROWTH = """
import asyncio, hashlib, sys
from pathlib import Path
from controller import memory
from jobcast.logstore import Uploader, LogPlace, open_log_store
from jobcast.logstore.fetch import read_object

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024

async def store_log(store, pod, chunks):
    uploader = Uploader(store, LogPlace("evals", "eval-42", "uid", pod, "main"), stall_seconds=60)
    digest = hashlib.sha256()
    for n in range(chunks):
        chunk = b"%020d" % n + b"x" * 65_516
        digest.update(chunk)
        await uploader.feed(chunk)
    return await uploader.finish(60), digest.hexdigest()

async def main(url, logs, chunks):
    store = open_log_store(url, put=None, limit=0)
    await store_log(store, "warm-up", 100)
    memory.settle()
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = peak()
    results = await asyncio.gather(*(store_log(store, f"pod-{n}", chunks) for n in range(logs)))
    print(peak() - before)
    for stored, digest in results:
        read = hashlib.sha256()
        for piece in read_object(stored.ref):
            read.update(piece)
        assert read.hexdigest() == digest
    await store.aclose()

asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
@pytest.mark.parametrize(("logs", "chunks", "megabytes"), [(1, 1600, 16), (16, 120, 130)])
def test_memory_is_bounded_however_long_the_logs(tmp_path: Path, logs: int, chunks: int, megabytes: int) -> None:
    assert float(run(GROWTH, f"file://{tmp_path}", str(logs), str(chunks))) < megabytes
