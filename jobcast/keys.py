"""Every Redis key and channel, with its lifetime. Pure.

All keys share the hash tag `{prefix}`, so that one script may use them all, also on a Redis cluster.

| name | type | lifetime |
| --- | --- | --- |
| `prefix:<status>`, `prefix:progress`, `prefix:<eval_id>:logs` | channel | none |
| `{prefix}:events` | stream | trimmed by age and length, but not what a living consumer group still needs |
| `{prefix}:job:<uid>` | hash: the ledger's row | retention after the end |
| `{prefix}:open` | sorted set: uids of the Jobs without an end, by creation time | until the end |
| `{prefix}:index` | sorted set: evaluations by their last change, Unix milliseconds of Redis' clock | with the records |
| `{prefix}:eval:<eval_id>` | hash: the record of an evaluation, of its newest Job | retention after the end |
| `{prefix}:log:<uid>:<pod>:<container>` | string: a whole log; after a restart of the container `:<restarts>` follows | retention from when it was stored |
| `{prefix}:unstored` | hash: logs that still have to be uploaded to the log store | until then |
| `{prefix}:epoch` | string: random, written once | none |
| `{prefix}:claim:<uid>` | string: the replica that reads this Job's logs | seconds |
| `{prefix}:dead` | stream: dead letters | trimmed by age |
| `{prefix}:sweep` | string: the process that sweeps now, or has just swept | seconds |
| `{prefix}:pruned` | string: the process that last repaired the index | an hour |
| `{prefix}:replays` | stream: events to be handled once more, see `replays` | until every group has handled them |
| `{prefix}:worker:<name>` | string: the process with this name, and whether it is stopping | seconds |
| `{prefix}:parts` | hash: per controller and worker its version, what it watches, its handlers and routes, and when it was last seen, see `parts` | a day |
| `{prefix}:signals` | stream: custom events, fires and cron slots | until every group has handled them |
| `{prefix}:queue:<group>` | sorted set: the entries of a group that have not ended, in order for each ordering key | with the entries |
| `{prefix}:keys:<group>`, `{prefix}:keys:<group>:send` | sorted sets: ordering keys by the time at which they are due | with the entries |
| `{prefix}:tries:<group>:<entry>` | hash: per handler of an entry its state, run, due time and tries | until all have ended |
| `{prefix}:pulse:<group>` | hash: when a script last ran, on which server, and the version of the data | none |
| `{prefix}:next:<group>` | hash: per handler with a rate limit when the next run is allowed | none |
| `{prefix}:answer:<group>:<process>` | string: what a process was given last, so that a lost answer costs nothing | a lease |
| `{prefix}:arrivals:<group>` | string: the process that waits for new entries | seconds |
| `prefix:wake:<group>` | channel: something is ready | none |
| `{prefix}:todo:<entry>` | hash: per handler of an entry how often it was started, or `ended` | until all have ended |
| `{prefix}:lanes` | hash: per evaluation the entries that workers hold, in order | with the entries |

`todo` and `lanes` are those of the group `worker`; other groups' keys carry the group's name.
"""

from dataclasses import dataclass

DEFAULT_PREFIX = "evaluation"
GROUP = "worker"
"""The consumer group of handlers, and of routes on our own broker."""


class _Key:
    """One key: there is one of this name for each prefix."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, keys: "Keys", _: "type[Keys]") -> str:
        return f"{keys.beginning}{self._name}"


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one installation. Installations that share a Redis need different prefixes."""

    prefix: str = DEFAULT_PREFIX

    events = _Key("events")
    open = _Key("open")
    index = _Key("index")
    epoch = _Key("epoch")
    dead = _Key("dead")
    sweep = _Key("sweep")
    pruned = _Key("pruned")
    unstored = _Key("unstored")
    signals = _Key("signals")
    replays = _Key("replays")
    """Fields: `event`, `id`, `status` and `eval_id` as in the stream of events, `handler` (the only one to get it; empty for
    all that want it), `of` (the entry that it repeats, or empty)."""
    parts = _Key("parts")
    """Fields are `<kind>:<name>`, values are JSON: see jobcast/service/membership.py."""

    @property
    def beginning(self) -> str:
        """How every key starts."""
        return f"{{{self.prefix}}}:"

    def channel(self, status: str) -> str:
        return f"{self.prefix}:{status}"

    @property
    def progress(self) -> str:
        return f"{self.prefix}:progress"

    def live_log(self, eval_id: str) -> str:
        return f"{self.prefix}:{eval_id}:logs"

    def job(self, uid: str) -> str:
        return f"{self.beginning}job:{uid}"

    def evaluation(self, eval_id: str) -> str:
        return f"{self.beginning}eval:{eval_id}"

    def log(self, uid: str, pod: str, container: str, instance: int = 0) -> str:
        """`instance`: how often the container had been restarted."""
        return f"{self.beginning}log:{uid}:{pod}:{container}" + (f":{instance}" if instance else "")

    def claim(self, uid: str) -> str:
        return f"{self.beginning}claim:{uid}"

    def todo(self, entry: str, group: str = GROUP) -> str:
        return f"{self.beginning}todo:{_of(group)}{entry}"

    def queue(self, group: str) -> str:
        return f"{self.beginning}queue:{group}"

    def slots(self, group: str) -> str:
        return f"{self.beginning}keys:{group}"

    def sends(self, group: str) -> str:
        return f"{self.beginning}keys:{group}:send"

    def pulse(self, group: str) -> str:
        return f"{self.beginning}pulse:{group}"

    def next(self, group: str) -> str:
        return f"{self.beginning}next:{group}"

    def tries(self, group: str, entry: str) -> str:
        return f"{self.beginning}tries:{group}:{entry}"

    def answer(self, group: str, process: str) -> str:
        return f"{self.beginning}answer:{group}:{process}"

    def arrivals(self, group: str) -> str:
        return f"{self.beginning}arrivals:{group}"

    def wake(self, group: str) -> str:
        """A channel."""
        return f"{self.prefix}:wake:{group}"

    def worker(self, name: str) -> str:
        return f"{self.beginning}worker:{name}"

    def lanes(self, group: str = GROUP) -> str:
        return f"{self.beginning}lanes:{_of(group)}".removesuffix(":")


def _of(group: str) -> str:
    return "" if group == GROUP else f"{group}:"
