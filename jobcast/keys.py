"""Every Redis key and channel, with its lifetime. Pure.

All keys share the hash tag `{prefix}`, so that one script may touch them all, also on a Redis cluster.

| name | type | lifetime |
| --- | --- | --- |
| `prefix:<status>`, `prefix:progress`, `prefix:<eval_id>:logs` | channel | none |
| `{prefix}:events` | stream | trimmed by age and length, without what a living group needs |
| `{prefix}:job:<uid>` | hash: the ledger's row | retention after the end |
| `{prefix}:open` | sorted set of uids not yet ended, by the second in which they were first seen | with the row |
| `{prefix}:index` | sorted set: evaluations by their last change, Unix milliseconds of Redis' clock | each with its record; as a whole retention after the last end, while no Job is open |
| `{prefix}:eval:<eval_id>` | hash: latest record of an evaluation | retention after the end |
| `{prefix}:log:<uid>:<pod>:<container>` | string: a whole log; after a restart of the container `:<restarts>` follows | retention from when it was stored |
| `{prefix}:unstored` | hash: logs that the store did not take, to be brought later | until they are |
| `{prefix}:epoch` | string: random, written once | none |
| `{prefix}:claim:<uid>` | string: who reads this Job's logs | seconds |
| `{prefix}:dead` | stream: events given up on | by age |
| `{prefix}:sweep` | string: who sweeps now, or has just swept | seconds |
| `{prefix}:pruned` | string: who looked last for what has lost its expiry | an hour |
| `{prefix}:replays` | stream: events that are to be handled once more, see `replays` | until every group has ended them |
| `{prefix}:handlers` | hash: of each handler and route, by name, which statuses it wants, its group, and when it was last seen | a day |
| `{prefix}:worker:<name>` | string: the process that has this name, and whether it is leaving | seconds |
| `{prefix}:parts` | hash: of each controller and worker, its version, what it watches, and when it was last there, see `parts` | a day |
| `{prefix}:todo:<entry>` | hash: of each handler of an entry how often it was started, or `ended` | until all have |
| `{prefix}:lanes` | hash: of each evaluation the entries that workers hold, in their order | with the entries |

`todo` and `lanes` are those of the workers' group; another group's carry its name.
"""

from dataclasses import dataclass

DEFAULT_PREFIX = "evaluation"
GROUP = "worker"
"""The consumer group of handlers, and of routes on our own broker."""


@dataclass(frozen=True, slots=True)
class Keys:
    """The names under one prefix. Two installations that share a Redis need two prefixes."""

    prefix: str = DEFAULT_PREFIX

    @property
    def beginning(self) -> str:
        """Of every key."""
        return f"{{{self.prefix}}}:"

    def _key(self, name: str) -> str:
        return f"{self.beginning}{name}"

    def channel(self, status: str) -> str:
        return f"{self.prefix}:{status}"

    @property
    def progress(self) -> str:
        return f"{self.prefix}:progress"

    def live_log(self, eval_id: str) -> str:
        return f"{self.prefix}:{eval_id}:logs"

    @property
    def events(self) -> str:
        return self._key("events")

    @property
    def open(self) -> str:
        return self._key("open")

    @property
    def index(self) -> str:
        return self._key("index")

    @property
    def epoch(self) -> str:
        return self._key("epoch")

    @property
    def dead(self) -> str:
        return self._key("dead")

    @property
    def sweep(self) -> str:
        return self._key("sweep")

    @property
    def pruned(self) -> str:
        return self._key("pruned")

    def job(self, uid: str) -> str:
        return self._key(f"job:{uid}")

    def evaluation(self, eval_id: str) -> str:
        return self._key(f"eval:{eval_id}")

    def log(self, uid: str, pod: str, container: str, instance: int = 0) -> str:
        """`instance` is how often the container was restarted before."""
        return self._key(f"log:{uid}:{pod}:{container}" + (f":{instance}" if instance else ""))

    @property
    def unstored(self) -> str:
        return self._key("unstored")

    def claim(self, uid: str) -> str:
        return self._key(f"claim:{uid}")

    @property
    def replays(self) -> str:
        """Fields: `event`, `id`, `status` and `eval_id` as in the stream of events, `handler` (the one that is to have it;
        empty for all that want it), `of` (the entry that it repeats, or empty)."""
        return self._key("replays")

    @property
    def handlers(self) -> str:
        """Values are JSON: `statuses` (a list), `group`, `seen` (Unix seconds, by Redis' clock)."""
        return self._key("handlers")

    @property
    def parts(self) -> str:
        """Fields are `<kind>:<name>`, values are JSON: see jobcast/service/membership.py."""
        return self._key("parts")

    def todo(self, entry: str, group: str = GROUP) -> str:
        return self._key(f"todo:{_of(group)}{entry}")

    def worker(self, name: str) -> str:
        return self._key(f"worker:{name}")

    def lanes(self, group: str = GROUP) -> str:
        return self._key(f"lanes:{_of(group)}".removesuffix(":"))


def _of(group: str) -> str:
    return "" if group == GROUP else f"{group}:"
