"""The faults. Each has a begin and an end; after its end everything works again."""

import asyncio
import shlex
import signal
import time

import redis

from chaos.credentials import CREDENTIAL_FAULTS
from chaos.fault import Fault
from chaos.nodes import NODE_FAULTS
from chaos.redisproxy import WRITES
from chaos.valkey import Valkey
from chaos.world import World

CLOCKS = ("+5h", "-7h", "+400d")
"""Seconds by which a process' clock is wrong."""
WATCHES = 4
"""Of one controller: Jobs and Pods in two namespaces."""


class Killed(Fault):
    kinds = ("kill",)

    async def begin(self) -> None:
        await self.part.kill()

    async def end(self) -> None:
        self.part.start()


class AllKilled(Fault):
    """No controller runs for a while."""

    kinds = ("all-killed",)

    async def begin(self) -> None:
        await asyncio.gather(*(self.world.parts[name].kill() for name in self.plan.targets))

    async def end(self) -> None:
        for name in self.plan.targets:
            self.world.parts[name].start()


class Terminated(Fault):
    kinds = ("terminate",)

    async def begin(self) -> None:
        if not await self.part.terminate():
            self.world.notes.append(f"{self.part.name} did not end on SIGTERM")

    async def end(self) -> None:
        self.part.start()


class Stopped(Fault):
    kinds = ("stop",)

    async def begin(self) -> None:
        self.part.send(signal.SIGSTOP)

    async def end(self) -> None:
        self.part.send(signal.SIGCONT)


class WrongClock(Fault):
    """The process' own, as of a node whose clock is wrong; monotonic clocks are right everywhere."""

    kinds = ("clock",)

    async def begin(self) -> None:
        library = self.world.means.faketime
        assert library is not None, "drawn only where there is one"
        await self.part.kill()
        by = CLOCKS[self.plan.number % len(CLOCKS)]
        # Loaded directly: the program of that name forks, and what it has started outlives it.
        self.part.start(LD_PRELOAD=library, FAKETIME=by, FAKETIME_DONT_FAKE_MONOTONIC="1", DONT_FAKE_MONOTONIC="1")

    async def end(self) -> None:
        await self.part.kill()
        self.part.start()


class WatchCut(Fault):
    kinds = ("watch-cut",)

    async def begin(self) -> None:
        for name in self.plan.targets:
            self.world.api.doors[name].cut()


class WatchStalled(Fault):
    """In the middle of a line; it goes on, or is cut there."""

    kinds = ("watch-stalled",)

    async def begin(self) -> None:
        for name in self.plan.targets:
            self.world.api.doors[name].stall()

    async def end(self) -> None:
        for name in self.plan.targets:
            door = self.world.api.doors[name]
            if self.plan.number % 2:
                door.cut()
            door.flow()


class WatchExpired(Fault):
    kinds = ("watch-410",)

    async def begin(self) -> None:
        for name in self.plan.targets:
            self.world.api.doors[name].expire()


class WatchLost(Fault):
    """Every watch is cut for longer than the API server keeps history: no watch shows what was deleted meanwhile."""

    kinds = ("watch-lost",)

    async def begin(self) -> None:
        for name in self.plan.targets:
            door = self.world.api.doors[name]
            door.is_shut = True
            door.cut()

    async def end(self) -> None:
        for name in self.plan.targets:
            door = self.world.api.doors[name]
            door.expiring = WATCHES
            door.is_shut = False


class Answered(Fault):
    """The open watches are cut, and new ones get this answer."""

    kinds = (*("answer-410", "answer-429", "answer-500", "answer-503", "answer-empty", "answer-401", "answer-403"),)

    async def begin(self) -> None:
        word = self.plan.kind.removeprefix("answer-")
        for name in self.plan.targets:
            door = self.world.api.doors[name]
            door.code = 200 if word == "empty" else int(word)
            door.cut()

    async def end(self) -> None:
        for name in self.plan.targets:
            self.world.api.doors[name].code = None


class ApiAway(Fault):
    kinds = ("api-away",)

    async def begin(self) -> None:
        for name in self.plan.targets:
            door = self.world.api.doors[name]
            door.is_shut = True
            door.cut()

    async def end(self) -> None:
        for name in self.plan.targets:
            self.world.api.doors[name].is_shut = False


class ServerCommand(Fault):
    kinds = ("server-restarted", "compacted")

    async def begin(self) -> None:
        means = self.world.means
        command = means.restart_server if self.plan.kind == "server-restarted" else means.compact
        assert command is not None, "drawn only where there is one"
        process = await asyncio.create_subprocess_exec(
            *shlex.split(command), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        said, _ = await process.communicate()
        if process.returncode:
            self.world.notes.append(f"{command}: {process.returncode} {said[-300:].decode(errors='replace')}")
        if self.plan.kind == "compacted":  # felt by those who come back with a version that is gone
            for door in self.world.api.doors.values():
                door.cut()


class RedisKilled(Fault):
    """Killed, and started again with everything that it had acknowledged."""

    kinds = ("redis-killed",)

    async def begin(self) -> None:
        await self.world.redis.down()

    async def end(self) -> None:
        await self.world.redis.up()


class RedisStopped(Fault):
    kinds = ("redis-stopped",)

    async def begin(self) -> None:
        self.world.redis.freeze()

    async def end(self) -> None:
        self.world.redis.thaw()


class RedisFull(Fault):
    kinds = ("redis-full",)

    async def begin(self) -> None:
        await self.world.redis.client.config_set("maxmemory", "1mb")

    async def end(self) -> None:
        await self.world.redis.client.config_set("maxmemory", "0")


class RedisReadOnly(Fault):
    """Redis becomes the replica of a primary that does not exist."""

    kinds = ("redis-readonly",)

    async def begin(self) -> None:
        await self.world.redis.client.replicaof("127.0.0.1", "1")

    async def end(self) -> None:
        await self.world.redis.client.replicaof("NO", "ONE")


class RedisEmptied(Fault):
    """Killed, and started again without its data."""

    kinds = ("redis-emptied",)

    async def begin(self) -> None:
        world = self.world
        self._since = time.monotonic()
        await world.doors.lead_to(None)
        await world.remember()
        await world.redis.down()
        world.redis.empty()

    async def end(self) -> None:
        await self.world.redis.up()
        await self.world.doors.lead_to(self.world.redis.port)
        self.world.forgot(self._since, all_of_it=True)


class RedisFailover(Fault):
    """Failover to a replica that lacks what was acknowledged since it was cut off."""

    kinds = ("redis-failover",)

    async def begin(self) -> None:
        world = self.world
        self._replica = Valkey(world.folder)
        await self._replica.up()
        await self._replica.client.replicaof("127.0.0.1", str(world.redis.port))
        async with asyncio.timeout(60):
            while (await self._replica.client.info("replication")).get("master_link_status") != "up":
                await asyncio.sleep(0.05)
        self._since = time.monotonic()
        await self._replica.client.replicaof("NO", "ONE")

    async def end(self) -> None:
        world = self.world
        await world.doors.lead_to(None)
        await world.remember()
        await world.replace_redis(self._replica)
        world.forgot(self._since, all_of_it=False)


class ReplyLost(Fault):
    kinds = ("reply-lost",)

    async def begin(self) -> None:
        self.world.doors.doors[self.plan.targets[0]].lose_reply_to(*WRITES, always=True)

    async def end(self) -> None:
        self.world.doors.doors[self.plan.targets[0]].lose_no_more()


class ConnectionReset(Fault):
    kinds = ("connection-reset",)

    async def begin(self) -> None:
        await self.world.doors.doors[self.plan.targets[0]].cut()


class LinkAway(Fault):
    """One process cannot reach Redis, the others can: its events are outdated when it can again."""

    kinds = ("link-away",)

    async def begin(self) -> None:
        door = self.world.doors.doors[self.plan.targets[0]]
        door.is_shut = True
        await door.cut()

    async def end(self) -> None:
        self.world.doors.doors[self.plan.targets[0]].is_shut = False


class ReaderCrash(Fault):
    """The reader dies between its work and its acknowledgement."""

    kinds = ("reader-crash",)

    async def begin(self) -> None:
        await self.world.reader.stop()

    async def end(self) -> None:
        self.world.reader.start()


FAULTS: dict[str, type[Fault]] = {
    kind: fault for fault in (*Fault.__subclasses__(), *NODE_FAULTS, *CREDENTIAL_FAULTS) for kind in fault.kinds
}


async def heal(world: World) -> None:
    """Ends every fault that is still active, also one that itself failed."""
    for door in world.api.doors.values():
        door.code, door.is_shut, door.cuts_logs = None, False, False
        door.gate.token = door.gate.serial = None
        door.flow()
    world.kubelet.skew, world.kubelet.is_early = 0.0, False
    for link in world.doors.doors.values():
        link.is_shut = False
        link.lose_no_more()
    for part in world.parts.values():
        if part.process is None or part.process.poll() is not None:
            part.start()
        part.send(signal.SIGCONT)
    if world.redis.process is None:
        await world.redis.up()
    world.redis.thaw()
    try:
        await world.redis.client.config_set("maxmemory", "0")
        await world.redis.client.replicaof("NO", "ONE")
    except redis.RedisError as error:
        world.notes.append(f"redis could not be healed: {error}")
    if world.doors.target != world.redis.port:
        await world.doors.lead_to(world.redis.port)
