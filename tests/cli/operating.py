"""What a worker leaves in Redis for an operator: events, dead letters, the names of its handlers."""

import json
import time
from typing import Any

import redis

from jobcast.event import Event
from jobcast.keys import Keys
from jobcast.wire import encode
from tests.client.telling import event


class Stage:
    """Sets things up with plain commands, and says what is there."""

    def __init__(self, client: "redis.Redis", prefix: str) -> None:
        self.client = client
        self.keys = Keys(prefix)

    def tell(self, *events: Event, entry: str = "*") -> list[str]:
        """Entries of the stream of events; their ids."""
        return [self._add(self.keys.events, fields(one), entry) for one in events]

    def bury(self, of: Event | bytes | str | None = None, **more: Any) -> str:
        """A dead letter of the handler `mine.score`; its id."""
        body = encode(of or event("failed")) if not isinstance(of, bytes | str) else of
        usual = {"entry": "1-1", "handler": "mine.score", "reason": "ValueError: no", "traceback": "Traceback\n  x"}
        at = more.pop("at", "*")
        return self._add(self.keys.dead, usual | {"tries": 4, "event": body} | more, at)

    def announce(self, *names: str, statuses: tuple[str, ...] = ("completed", "failed"), age: float = 0) -> None:
        """Handlers of a worker, one each, that registered `age` seconds ago."""
        seen = int(self.client.time()[0]) - age  # type: ignore[index,operator]
        for name in names:
            handlers = {name: {"statuses": statuses, "group": "worker"}}
            member = {"kind": "worker", "name": name, "version": "1.0.0", "handlers": handlers, "seen": seen}
            self.client.hset(self.keys.parts, f"worker:{name}", json.dumps(member))

    @property
    def replays(self) -> list[dict[str, str]]:
        return [entry for _, entry in self.client.xrange(self.keys.replays)]  # type: ignore[union-attr,misc]

    @property
    def letters(self) -> list[str]:
        return [entry for entry, _ in self.client.xrange(self.keys.dead)]  # type: ignore[union-attr,misc]

    def _add(self, stream: str, of: dict[str, Any], entry: str) -> str:
        return str(self.client.xadd(stream, of, id=entry))


def fields(of: Event) -> dict[str, Any]:
    return {"id": of.id, "status": of.status.value, "eval_id": of.eval_id, "event": encode(of)}


def ago(seconds: float) -> str:
    """The id of an entry that was told so long ago."""
    return f"{int((time.time() - seconds) * 1000)}-0"
