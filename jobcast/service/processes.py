"""Which processes an installation has, and what each may do: one table behind manifests, accounts and checks. Pure.

The accounts of Redis (k8s/components/redis/users.acl) are made from it by `make docs`. Roles, ports and network policies
in k8s/, the default ports of the settings, and what `jobcast doctor` looks for are checked against it by
tests/manifests/test_processes.py. A new process is a row here, and whatever those tests then ask for.
"""

from typing import NamedTuple

from jobcast.keys import DEFAULT_PREFIX, Keys
from jobcast.kube.decode import JOBS, PODS
from jobcast.kube.permissions import Permission
from jobcast.service import membership


class RedisRights(NamedTuple):
    """What an account may do in Redis, in the words of its access control lists."""

    keys: tuple[str, ...]
    """Patterns; `%R~…` is for reading alone."""
    channels: tuple[str, ...]
    commands: str
    """Separated by spaces."""
    selector: str = ""
    """More commands for some keys alone. Redis 7.0 and later."""

    @property
    def rules(self) -> str:
        """As `ACL SETUSER` takes them."""
        keys = (key if key.startswith("%") else f"~{key}" for key in self.keys)
        channels = (f"&{channel}" for channel in self.channels)
        commands = (f"+{command}" for command in self.commands.split())
        return " ".join(("resetchannels", "-@all", *keys, *channels, *commands, self.selector)).strip()


class Process(NamedTuple):
    """One kind of process."""

    kind: str
    """Its component label, its name in the membership, and the suffix of its ServiceAccount and Deployment."""
    port_setting: str
    port: int
    """Where it serves probes and metrics by default."""
    permissions: tuple[Permission, ...]
    """Of its Role."""
    redis: RedisRights
    talks_to: frozenset[str]
    """Of KUBERNETES and REDIS. Every process asks DNS."""

    @property
    def service_account(self) -> str:
        """As k8s/base/rbac.yaml calls it, and its Role."""
        return f"jobcast-{self.kind}"

    def needs(self, *, finalizer: bool) -> tuple[Permission, ...]:
        """With the finalizer, one permission more."""
        return (*self.permissions, Permission("patch", JOBS)) if finalizer else self.permissions


KUBERNETES, REDIS = "kubernetes", "redis"
_READ_JOB = Permission("get", JOBS, "status")
_READ_LOGS = Permission("get", PODS, "log")

_KEYS = Keys()
_EVERYTHING = f"{_KEYS.beginning}*"
_ANY_LOG = f"{_KEYS.beginning}log:*"
_CHANNELS = f"{DEFAULT_PREFIX}:*"
_LEDGER = (
    "script|load eval evalsha time type get set del exists expire pexpire persist hget hmget hgetall hset hdel hlen"
    " hexists zadd zrem zscore zrange xadd xrevrange xlen xtrim xpending xinfo|groups xinfo|consumers publish"
)
"""For steps, claims, logs and trimming: by the controller, and by the worker's sweep."""
_READER = "ping time get hmget hgetall zrange xread xrange xrevrange subscribe psubscribe"

CONTROLLER = Process(
    kind=membership.CONTROLLER,
    port_setting="HTTP_PORT",
    port=8080,
    permissions=(
        *(Permission(verb, JOBS) for verb in ("list", "watch")),
        _READ_JOB,
        *(Permission(verb, PODS) for verb in ("list", "watch")),
        _READ_LOGS,
    ),
    redis=RedisRights(
        keys=(
            *(_KEYS.events, _KEYS.replays, _KEYS.dead, _KEYS.open, _KEYS.index, _KEYS.epoch, _KEYS.parts),
            *(_KEYS.unstored, _KEYS.job("*"), _KEYS.evaluation("*"), _ANY_LOG, _KEYS.claim("*")),
        ),
        channels=(_CHANNELS,),
        commands=_LEDGER,
    ),
    talks_to=frozenset({KUBERNETES, REDIS}),
)
WORKER = Process(
    kind=membership.WORKER,
    port_setting="WORKER_HTTP_PORT",
    port=8081,
    # The sweep lists where the controller watches.
    permissions=(Permission("list", JOBS), _READ_JOB, Permission("list", PODS), _READ_LOGS),
    redis=RedisRights(
        # Kombu's names for Celery's queues and remote control are its own.
        keys=(_EVERYTHING, "_kombu.binding*", "*.celery.pidbox*"),
        channels=(_CHANNELS, "/0.celery.pidbox", "/0.celeryev/*", "/0.celeryev/worker.*"),
        commands=f"{_LEDGER} scan xrange script|exists hsetnx hkeys xread xreadgroup xack xclaim xdel xinfo|stream"
        " xgroup|create xgroup|setid xgroup|delconsumer brpop lpush rpush llen sadd srem smembers zrangebyscore multi exec"
        " watch psubscribe punsubscribe ping",
    ),
    talks_to=frozenset({KUBERNETES, REDIS}),
)
PROCESSES = {process.kind: process for process in (CONTROLLER, WORKER)}

ACCOUNTS = {
    **{process.kind: process.redis for process in PROCESSES.values()},
    "subscriber": RedisRights(
        keys=tuple(f"%R~{key}" for key in (_KEYS.events, _KEYS.index, _KEYS.job("*"), _KEYS.evaluation("*"), _ANY_LOG)),
        channels=(_CHANNELS,),
        commands=_READER,
    ),
    "operator": RedisRights(
        keys=(_EVERYTHING,),
        channels=(_CHANNELS,),
        commands=f"{_READER} eval xlen xpending xinfo|groups xinfo|consumers info acl|whoami"
        " scan hscan type ttl hget zscore expire",  # these, and the second selector, are for `jobcast doctor --repair`
        selector=f"(~{_KEYS.replays} ~{_KEYS.dead} +xadd +xdel) (~{_KEYS.open} ~{_KEYS.lanes()}* +zadd +hdel)",
    ),
}
"""Of Redis: those of the processes, one for who reads events, records and logs, and one for the `jobcast` command."""
