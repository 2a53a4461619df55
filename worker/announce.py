"""Which handlers and routes there are, told in Redis for whoever is to name one: `jobcast replay`, `jobcast lag`."""

import logging
import time
from collections.abc import Iterable

import msgspec
import redis

from jobcast.keys import Keys
from jobcast.redis.connection import explain
from jobcast.service.membership import KEPT_SECONDS, PRUNE
from worker.handler_target import Target

log = logging.getLogger(__name__)

EVERY_SECONDS = 10.0
"""Who looks takes what was not announced for a minute for gone; five of six may come late."""
# What strangers left in the hash goes too: whoever reads it may rely on it.
_ANNOUNCE = (
    PRUNE
    + """
local handlers, kept = KEYS[1], tonumber(ARGV[1])
local now = prune(handlers, kept)
for i = 3, #ARGV, 2 do
  local statuses = cjson.decode(ARGV[i + 1])
  redis.call('HSET', handlers, ARGV[i], cjson.encode({ statuses = statuses, group = ARGV[2], seen = now }))
end
redis.call('EXPIRE', handlers, kept)
"""
)


class Announcer:
    """Says every few seconds that these targets of a group are there. Nothing waits for it, and nothing fails with it."""

    def __init__(self, client: "redis.Redis", keys: Keys, group: str, targets: Iterable[Target]) -> None:
        self._client = client
        self._script = client.register_script(_ANNOUNCE)
        self._key = keys.handlers
        self._told: list[str | bytes] = [group]
        for target in targets:
            self._told += [target.name, msgspec.json.encode(sorted(target.statuses))]
        self._next = 0.0

    def is_of_another(self, target: str) -> bool:
        """Whether the target of this name is, or was within a day, one of another group. Raises what redis-py raises."""
        said = self._client.hget(self._key, target)
        try:
            return said is not None and msgspec.json.decode(said)["group"] != self._told[0]
        except (msgspec.DecodeError, TypeError, KeyError):  # a stranger's
            return False

    def announce(self) -> None:
        """Raises what redis-py raises when Redis is away; a refusal is a line in the log."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + EVERY_SECONDS
        try:
            self._script(keys=(self._key,), args=(KEPT_SECONDS, *self._told))
        except redis.ResponseError as error:
            log.warning("could not announce the handlers", extra={"error": explain(error)})
