"""Local processes that stand for containers, each in a process group of its own; and the warden that outlives us."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from devcluster.logfile import BLOCK, LogFile
from devcluster.memory import LOOK_SECONDS, resident

PIPE_SIZE = 1 << 20
"""Bytes between a chatty process and us, so that it need not wait for the event loop."""

POLL_SECONDS = 0.01
"""Between looks at a process where the system cannot report its end."""

# Reads process groups from its stdin; when that ends, because we ended or were killed, it kills those that are left and
# removes our folder. A process of its own: nothing inside a process survives that process's SIGKILL.
_WARDEN = """
import os, shutil, signal, sys
groups = set()
for line in sys.stdin:
    (groups.add if line[0] == "+" else groups.discard)(int(line[1:]))
for group in groups:
    try:
        os.killpg(group, signal.SIGKILL)
    except OSError:
        pass
shutil.rmtree(sys.argv[1], ignore_errors=True)
"""


class Warden:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._kept: set[Process] = set()

    def _tell(self, text: str) -> None:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _WARDEN, str(self._folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # a Ctrl-C in the terminal is not for it
                bufsize=0,
            )
        assert self._process.stdin
        with suppress(BrokenPipeError):
            self._process.stdin.write(text.encode())

    def watch(self, process: Process) -> None:
        self._kept.add(process)
        self._tell(f"+{process.pid}\n")

    def reaped(self, process: Process) -> None:
        """From now on another process may have its number."""
        self._tell(f"-{process.pid}\n")

    def forget(self, process: Process) -> None:
        self._kept.discard(process)

    async def stop(self) -> None:
        """Kills what is left, and removes the folder."""
        for process in list(self._kept):
            process.signal(signal.SIGKILL)
            await process.wait()
        if self._process is not None:
            assert self._process.stdin
            self._process.stdin.close()
            self._process.wait()
            self._process = None


class Process:
    """One running command; raises OSError when it cannot be started."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], cwd: Path, log: LogFile, warden: Warden) -> None:
        self._log = log
        self._warden = warden
        self._pipe, write_end = os.pipe()
        try:
            _widen(write_end)
            self._popen = subprocess.Popen(
                argv,
                env=dict(env),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=write_end,
                stderr=write_end,
                start_new_session=True,
            )
        except BaseException:
            os.close(self._pipe)
            log.close()
            raise
        finally:
            os.close(write_end)
        self.pid = self._popen.pid
        os.set_blocking(self._pipe, False)
        self._drained = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._pipe, self._read)
        self._reaped = False
        self._exit = asyncio.ensure_future(self._wait())
        warden.watch(self)
        self.out_of_memory = False
        """Whether it was killed for using more than its limit."""

    async def keep_below(self, limit: int) -> None:
        """Kill it when it holds more bytes than that; returns when it has ended."""
        while not self._exit.done():
            if resident(self.pid) > limit:
                self.out_of_memory = True
                self.signal(signal.SIGKILL)
                return
            await asyncio.wait({self._exit}, timeout=LOOK_SECONDS)

    async def wait(self) -> int:
        """The exit code, 128 + n for signal n; by then the log is complete. Cancelling it leaves the process alone."""
        return await asyncio.shield(self._exit)

    def signal(self, number: int) -> None:
        """To the whole group."""
        if not self._reaped:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    async def _wait(self) -> int:
        await self._ended()
        # The zombie still holds the number of the group, so this cannot hit another process. A container's other processes
        # end with its first one.
        self.signal(signal.SIGKILL)
        code = self._popen.wait()
        self._reaped = True
        self._warden.reaped(self)
        with suppress(TimeoutError):
            # Somebody may have left the group with the pipe in hand; that must not hold up the Pod.
            await asyncio.wait_for(self._drained.wait(), 1)
        self._close()
        self._warden.forget(self)
        return 128 - code if code < 0 else code

    async def _ended(self) -> None:
        if not hasattr(os, "pidfd_open"):
            while self._popen.poll() is None:
                await asyncio.sleep(POLL_SECONDS)
            return
        fd = os.pidfd_open(self.pid)
        ended = asyncio.Event()
        self._loop.add_reader(fd, ended.set)
        try:
            await ended.wait()
        finally:
            self._loop.remove_reader(fd)
            os.close(fd)

    def _read(self) -> None:
        try:
            data = os.read(self._pipe, BLOCK)
        except BlockingIOError:
            return
        if data:
            self._log.append(data)
        else:
            self._loop.remove_reader(self._pipe)
            self._drained.set()

    def _close(self) -> None:
        self._loop.remove_reader(self._pipe)
        os.close(self._pipe)
        self._log.close()


def _widen(pipe: int) -> None:
    with suppress(ImportError, AttributeError, OSError):
        import fcntl

        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
