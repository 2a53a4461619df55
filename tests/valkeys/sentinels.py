"""A primary, a replica, and three sentinels that watch them."""

from pathlib import Path
from typing import Any

from testbed.valkey import FORGETFUL, ValkeyServer
from tests.valkeys.nodes import QUICK, replication_of, wait_until

SERVICE = "jobcast"
SENTINEL_PACE = (
    "PING-PERIOD",
    300,
    "INFO-PERIOD",
    200,
    "ASK-PERIOD",
    100,
    "PUBLISH-PERIOD",
    200,
    "ELECTION-TIMEOUT",
    1000,
)
"""Milliseconds. Sentinels look every ten seconds by default; a test has no such time. Of a primary that is down they ask
the replicas once a second, and choose one that answered within five pings: so these must not be too quick."""
DOWN_MILLIS = (400, 10_000)
"""Of the first sentinel, and of the others: they vote, and do not stand for election, else votes split and it takes longer."""


class Watched:
    """A primary, a replica, and three sentinels that replace the one by the other."""

    def __init__(self, folder: Path) -> None:
        self.nodes = [ValkeyServer(folder, *QUICK).start(), ValkeyServer(folder, *QUICK)]
        first, second = self.nodes
        second.options = (*FORGETFUL, *QUICK, "--replicaof", f"127.0.0.1 {first.port}")
        second.start()
        wait_until(lambda: b"master_link_status:up" in replication_of(second))
        self.sentinels = [ValkeyServer(folder) for _ in range(3)]
        ids = [f"{number:040x}" for number in range(1, 4)]
        for own, sentinel in zip(ids, self.sentinels, strict=True):
            others = [(one, of.port) for one, of in zip(ids, self.sentinels, strict=True) if one != own]
            sentinel.options = (str(self._configuration(sentinel, own, others)), "--sentinel")
            sentinel.start()
            sentinel.ask("SENTINEL", "DEBUG", *SENTINEL_PACE)
        wait_until(self._is_watched)

    @property
    def url(self) -> str:
        return f"redis+sentinel://{','.join(f'127.0.0.1:{one.port}' for one in self.sentinels)}/{SERVICE}/0"

    @property
    def primary(self) -> ValkeyServer:
        """As the sentinels have it."""
        _, port = self.sentinels[0].ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
        return next(node for node in self.nodes if node.port == int(port))

    @property
    def replica(self) -> ValkeyServer:
        return next(node for node in self.nodes if node is not self.primary)

    def fail_over(self, *, kill: bool = True) -> None:
        """As Doubled.fail_over."""
        old = self.primary
        new = next(node for node in self.nodes if node is not old)
        if kill:
            old.stop(kill=True)

        def is_done() -> bool:
            if self.primary is new:
                return new.role == "master"
            if not kill:
                # Again and again: on a busy machine they fail over by themselves as well, and what was asked for may turn
                # that back.
                self.sentinels[0].ask("SENTINEL", "FAILOVER", SERVICE)
            return False

        wait_until(is_done)

    def restore(self) -> None:
        """All of them up, one replica, empty: as it was in the beginning."""
        for node in self.nodes:
            if node.process is None:
                node.options = (*FORGETFUL, *QUICK)
                node.start()
        wait_until(self._is_watched, 60)
        self.primary.ask("FLUSHALL")
        self.primary.ask("SCRIPT", "FLUSH")

    def stop(self) -> None:
        for one in (*self.sentinels, *self.nodes):
            one.stop(kill=True)

    def _is_watched(self) -> bool:
        """Whether each sentinel knows the same primary, its replica, which follows it, and the others."""
        primary, replica = self.primary, self.replica
        for sentinel in self.sentinels:
            known = _fields(sentinel.ask("SENTINEL", "MASTER", SERVICE))
            found = (known["port"], known["flags"], known["num-slaves"], known["num-other-sentinels"])
            if found != (str(primary.port), "master", "1", "2"):
                return False
            of_replica = _fields(sentinel.ask("SENTINEL", "REPLICAS", SERVICE)[0])
            if (of_replica["flags"], of_replica["master-link-status"]) != ("slave", "ok"):
                return False
        return primary.role == "master" and b"master_link_status:up" in replication_of(replica)

    def _configuration(self, sentinel: ValkeyServer, own: str, others: list[tuple[str, int]]) -> Path:
        first, second = self.nodes
        lines = [
            f"sentinel myid {own}",
            f"sentinel monitor {SERVICE} 127.0.0.1 {first.port} 1",
            f"sentinel down-after-milliseconds {SERVICE} {DOWN_MILLIS[sentinel is not self.sentinels[0]]}",
            f"sentinel failover-timeout {SERVICE} 1000",
            f"sentinel known-replica {SERVICE} 127.0.0.1 {second.port}",
            *(f"sentinel known-sentinel {SERVICE} 127.0.0.1 {port} {one}" for one, port in others),
        ]
        path = sentinel.folder / "sentinel.conf"
        path.parent.mkdir()
        path.write_text("\n".join(lines) + "\n")
        return path


def _fields(reply: Any) -> dict[str, str]:
    """Of a reply of RESP2 or RESP3."""
    pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
    return {name.decode(): value.decode() for name, value in pairs}
