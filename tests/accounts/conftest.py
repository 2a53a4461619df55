"""A Valkey with the very accounts of k8s/components/redis, and one more for who sets the stage."""

import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import redis

from devcluster import DevCluster
from testbed.valkey import ValkeyServer, valkey
from tests.controller.conftest import wiretap  # noqa: F401 - a fixture
from tests.controller.world import Wiretap, World

USERS = Path(__file__).parents[2] / "k8s" / "components" / "redis" / "users.acl"
PREFIX = "evaluation"


class Accounts:
    """With the passwords of k8s/components/redis/kustomization.yaml."""

    def __init__(self, server: ValkeyServer) -> None:
        self.server = server
        self.admin_url = self.url("admin")
        self.admin = redis.Redis.from_url(self.admin_url, single_connection_client=True)

    def url(self, account: str) -> str:
        return f"redis://{account}:for-trying-out-{account}@127.0.0.1:{self.server.port}/0"

    def refusals(self, account: str) -> list[str]:
        """What it asked and may not. Without redis-py's saying who it is, which it does without where that is refused: Redis
        before 7.2 does not know the rule, and would not start."""
        found = [one for one in self.admin.acl_log() if one["object"] != "client|setinfo"]
        return [f"{one['object']} ({one['context']})" for one in found if one["username"] == account]


def rules_of(account: str) -> list[str]:
    """As the file has them, without what says how one logs in."""
    (line,) = [line for line in USERS.read_text().splitlines() if line.startswith(f"user {account} ")]
    return [rule for rule in re.findall(r"\([^)]*\)|\S+", line)[2:] if not rule.startswith("#")]


@pytest.fixture(scope="session")
def _accounts_of_the_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Accounts]:
    file = tmp_path_factory.mktemp("accounts") / "users.acl"
    file.touch()
    with valkey("--aclfile", str(file)) as server:
        file.write_text(USERS.read_text() + "user admin on >for-trying-out-admin ~* &* +@all\n")
        server.ask("ACL", "LOAD")
        made = Accounts(server)
        yield made
        made.admin.close()


@pytest.fixture
def accounts(_accounts_of_the_session: Accounts) -> Accounts:
    _accounts_of_the_session.admin.flushall()
    _accounts_of_the_session.admin.acl_log_reset()
    return _accounts_of_the_session


@pytest.fixture
async def world(
    accounts: Accounts,
    wiretap: Wiretap,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[World]:
    """A cluster, and a subscriber that is nobody of interest."""
    async with DevCluster(bookmark_seconds=0.3, backoff_seconds=0.05) as cluster:
        cluster.write_kubeconfig(tmp_path / "kubeconfig")
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
        world = World(cluster, wiretap, accounts.admin_url, "evals")
        world.prefix = PREFIX
        async with world:
            yield world
