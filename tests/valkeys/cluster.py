"""A cluster of four, of whom one is a replica."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from redis.crc import key_slot

from testbed.ports import free_port
from testbed.valkey import ValkeyServer
from tests.valkeys.nodes import QUICK, replication_of, wait_until

SLOTS = 16384
NODE_TIMEOUT_MILLIS = 1000
FAILOVER_SECONDS = 6.0
"""After 5 s a replica gives up a failover that was asked of it."""


class Cluster:
    """Three primaries, and a replica of the one that has the slot of a prefix."""

    def __init__(self, folder: Path, prefix: str) -> None:
        self._slot = key_slot(prefix.encode())
        options = (*QUICK, "--cluster-enabled", "yes", "--cluster-node-timeout", str(NODE_TIMEOUT_MILLIS))
        self.nodes = [ValkeyServer(folder, *options, "--cluster-port", str(free_port())).start() for _ in range(4)]
        for number, node in enumerate(self.nodes):
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            if number < 3:
                node.ask("CLUSTER", "ADDSLOTSRANGE", SLOTS * number // 3, SLOTS * (number + 1) // 3 - 1)
            bus = int(node.options[-1])
            self.nodes[0].ask("CLUSTER", "MEET", "127.0.0.1", node.port, bus) if number else None
        wait_until(lambda: all(b"cluster_known_nodes:4" in node.ask("CLUSTER", "INFO") for node in self.nodes))
        spare = self.nodes[3]
        ours = self.nodes[self._slot * 3 // SLOTS]
        wait_until(lambda: spare.ask("CLUSTER", "REPLICATE", ours.ask("CLUSTER", "MYID")))
        self.wait_until_whole()

    @property
    def url(self) -> str:
        return f"redis+cluster://127.0.0.1:{self.nodes[0].port},127.0.0.1:{self.nodes[1].port}"

    def owner(self, seen_by: ValkeyServer) -> ValkeyServer:
        for first, last, (_, port, *_), *_ in seen_by.ask("CLUSTER", "SLOTS"):
            if first <= self._slot <= last:
                return next(node for node in self.nodes if node.port == port)
        raise AssertionError("a slot that nobody has")

    @property
    def primary(self) -> ValkeyServer:
        """Of our slot, as all who run see it."""
        owners = {id(owner): owner for node in self.nodes if node.process for owner in [self.owner(node)]}
        (owner,) = owners.values()
        return owner

    @property
    def replica(self) -> ValkeyServer:
        return next(node for node in self.nodes if node.role == "slave")

    def wait_until_whole(self) -> None:
        def is_whole() -> bool:
            with contextlib.suppress(ValueError, StopIteration):  # they do not agree yet; none is a replica yet
                return (
                    all(b"cluster_state:ok" in node.ask("CLUSTER", "INFO") for node in self.nodes)
                    and self.primary is not self.replica
                    and b"master_link_status:up" in replication_of(self.replica)
                )
            return False

        wait_until(is_whole)

    def fail_over(self, *, kill: bool = True) -> None:
        """As Doubled.fail_over: of our slot."""
        old, new = self.primary, self.replica
        if kill:
            old.stop(kill=True)
        asked = 0.0

        def is_done() -> bool:
            nonlocal asked
            if not kill and new.role == "slave" and time.monotonic() > asked + FAILOVER_SECONDS:
                asked = time.monotonic()
                new.ask("CLUSTER", "FAILOVER")
            with contextlib.suppress(ValueError):
                return self.primary is new and all(
                    b"cluster_state:ok" in node.ask("CLUSTER", "INFO") for node in self.nodes if node.process
                )
            return False

        wait_until(is_done)

    @contextlib.contextmanager
    def slot_on_the_move(self) -> Iterator[None]:
        """Within, our slot is under way to another node: what is not there yet is to be asked for there."""
        source = self.primary
        target = next(node for node in self.nodes if node.role == "master" and node is not source)
        ids = {node: node.ask("CLUSTER", "MYID") for node in (source, target)}
        target.ask("CLUSTER", "SETSLOT", self._slot, "IMPORTING", ids[source])
        source.ask("CLUSTER", "SETSLOT", self._slot, "MIGRATING", ids[target])
        try:
            yield
        finally:
            for node in (source, target):
                node.ask("CLUSTER", "SETSLOT", self._slot, "STABLE")

    def restore(self) -> None:
        for node in self.nodes:
            if node.process is None:
                node.start()
        self.wait_until_whole()
        for node in self.nodes:
            if node.role == "master":
                node.ask("FLUSHALL")
                node.ask("SCRIPT", "FLUSH")

    def stop(self) -> None:
        for node in self.nodes:
            node.stop(kill=True)
