"""The promises of the delivery engine under faults at random: replies that are lost, processes that are killed or held, targets
that fail, with several targets and keys. Each run has a seed of its own, which a failure shows."""

import asyncio
import random
from typing import Any

import pytest

from jobcast.delivery.engine import Options
from jobcast.delivery.target import Delivery, RetryPolicy
from jobcast.redis.connection import connect
from tests.conftest import ValkeyServer
from tests.delivery.processes import Log, Plain, Process, add, dead_letters, is_empty, until

ENTRIES, KEYS, TARGETS, PROCESSES = 120, 7, 3, 3
OPTIONS = Options(slots=3, lease=1.5)


class _World:
    def __init__(self, url: str, seed: int) -> None:
        self.random = random.Random(seed)
        self.url = url
        self.log = Log()
        self.is_calm = False
        self.targets = [
            Plain(f"t{i}", self.run, retry=RetryPolicy(max_retries=1000, bounds=(0.005, 0.05))) for i in range(TARGETS)
        ]
        self.processes = [self.start() for _ in range(PROCESSES)]

    async def run(self, delivery: Delivery) -> None:
        with self.log.of(delivery):
            await asyncio.sleep(self.random.choice([0, 0, 0.002, 0.02]))
            if self.random.random() < 0.1:
                raise RuntimeError("not this time")

    def start(self) -> Process:
        process = Process(self.url, self.targets, OPTIONS)
        for wire in process.wires:
            wire.lost_replies, wire.random = 0.05, self.random
        return process

    async def disturb(self) -> None:
        while not self.is_calm:
            await asyncio.sleep(self.random.uniform(0.05, 0.3))
            which = self.random.randrange(PROCESSES)
            await self.processes[which].kill()
            self.processes[which] = self.start()


@pytest.mark.parametrize("seed", range(6))
async def test_under_faults_every_target_gets_every_entry_in_order_and_alone(valkey: ValkeyServer, seed: int) -> None:
    url = f"redis://127.0.0.1:{valkey.port}/0"
    async with connect(url) as client:
        world = _World(url, seed)
        disturbing = asyncio.create_task(world.disturb())
        entries: list[str] = []
        keys = [world.random.randrange(KEYS) for _ in range(ENTRIES)]
        for key in keys:
            entries += await add(client, f"e{key}")
            await asyncio.sleep(0.005)
        world.is_calm = True
        await disturbing
        await until(lambda: is_empty(client))
        for process in world.processes:
            await process.stop()
        assert not await dead_letters(client)
        _check(world.log, entries, keys)


def _check(log: Log, entries: list[str], keys: list[int]) -> Any:
    names = [f"t{i}" for i in range(TARGETS)]
    assert {(name, entry) for name in names for entry in entries} == set(log.ended)
    for key in range(KEYS):
        of_key = [entry for entry, its in zip(entries, keys, strict=True) if its == key]
        for name in names:
            assert [entry for entry in log.order_of(name) if entry in of_key] == of_key, (name, key)
    assert not log.overlaps
