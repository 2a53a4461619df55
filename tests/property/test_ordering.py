"""Random doings of three workers: of each evaluation one entry is in work at a time, in order, and every entry ends."""

import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobcast.keys import GROUP, Keys
from worker.entries import Entries
from worker.group import Entry, Group
from worker.scripts import run

KEYS = Keys("property")
WORKERS = ("one", "two", "three")
EVALUATIONS = ("a", "b", "c")
WORKER, EVALUATION = st.sampled_from(WORKERS), st.sampled_from(EVALUATIONS)
DOING = st.one_of(
    st.tuples(st.just("tell"), EVALUATION),
    st.tuples(st.just("replay"), EVALUATION),
    st.tuples(st.just("read"), WORKER, st.integers(1, 4)),
    st.tuples(st.just("end"), WORKER),
    st.tuples(st.just("elsewhere"), WORKER, WORKER),
    st.tuples(st.just("look"), WORKER),
    st.tuples(st.just("kill"), WORKER),
    st.tuples(st.just("leave"), WORKER),
)


class World:
    """What the workers do to Redis, and what each has in hand."""

    def __init__(self, client: "redis.Redis") -> None:
        self.client = client
        self.entries = Entries(client, KEYS, max_age=3600)
        self.groups = {name: Group(client, KEYS, name) for name in WORKERS}
        self.in_hand: dict[str, dict[str, str]] = {name: {} for name in WORKERS}
        self.published: dict[str, list[str]] = {name: [] for name in EVALUATIONS}
        self.ended: dict[str, list[str]] = {name: [] for name in EVALUATIONS}
        for name, group in self.groups.items():
            group.create()
            client.set(KEYS.worker(name), "token")

    def tell(self, evaluation: str) -> None:
        self.client.xadd(KEYS.events, {"eval_id": evaluation})

    def replay(self, evaluation: str) -> None:
        self.client.xadd(KEYS.replays, {"eval_id": evaluation})

    def read(self, worker: str, count: int = 4, moved: tuple[str, ...] = ()) -> None:
        (reply,) = run(self.client, self.groups[worker].reading(count, moved))
        self._take(worker, self.groups[worker].read(reply).entries)

    def look(self, worker: str) -> None:
        """Its heartbeat: it looks through what it holds and takes over what is silent."""
        group = self.groups[worker]
        held = [*group.heartbeat(), *group.claim(60, 10)]
        self._take(worker, group.next_ready([one for one in held if one not in self.in_hand[worker]], 100)[0])

    def end(self, worker: str) -> None:
        self.elsewhere(worker, worker)

    def elsewhere(self, worker: str, where: str) -> None:
        """What the worker handed out first ends in another one, through a queue that they share."""
        if not self.in_hand[worker]:
            return
        entry, evaluation = next(iter(self.in_hand[worker].items()))
        del self.in_hand[worker][entry]
        self.entries.start(entry, "handler", where, "attempt")
        assert self.entries.finish(entry, "handler")
        self.ended[evaluation].append(entry)
        self.read(where, 0, (evaluation,))

    def kill(self, worker: str) -> None:
        """It is started again long after what it held has become silent."""
        self.in_hand[worker].clear()
        self.groups[worker].release(())

    def leave(self, worker: str) -> None:
        """It ends what it has in hand while it is leaving, and is started again."""
        self.client.set(KEYS.worker(worker), "leaving token")
        for entry, evaluation in self.in_hand[worker].items():
            assert self.entries.finish(entry, "handler")
            self.ended[evaluation].append(entry)
        self.kill(worker)
        self.client.set(KEYS.worker(worker), "token")

    def _take(self, worker: str, entries: list[Entry]) -> None:
        for entry, fields in entries:
            evaluation = fields[b"eval_id"].decode()
            assert all(entry not in hand for hand in self.in_hand.values()), "in two hands"
            assert all(evaluation not in hand.values() for hand in self.in_hand.values()), "two of one evaluation"
            assert entry not in self.ended[evaluation]
            self.in_hand[worker][entry] = evaluation
            if entry not in self.published[evaluation]:
                self.published[evaluation].append(entry)

    def is_done(self) -> bool:
        return all(
            group["lag"] == 0 and group["pending"] == 0
            for stream in (KEYS.events, KEYS.replays)
            for group in self.client.xinfo_groups(stream)
            if group["name"] == GROUP.encode()
        )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(DOING, max_size=40))
def test_one_entry_of_an_evaluation_is_in_work_at_a_time_and_in_order_whatever_workers_do(valkey, doings) -> None:
    with redis.Redis.from_url(valkey.url) as client:
        client.flushdb()
        world = World(client)
        for what, *about in doings:
            getattr(world, what)(*about)
        rounds = 0
        while not world.is_done():
            rounds += 1
            assert rounds < 200, "something waits for ever"
            for worker in WORKERS:
                world.look(worker)
                world.read(worker)
                world.end(worker)
        for evaluation in EVALUATIONS:
            assert world.ended[evaluation] == world.published[evaluation]
            events = [entry for entry in world.ended[evaluation] if not entry.startswith("replay:")]
            assert events == sorted(events, key=lambda one: [int(part) for part in one.split("-")])
        assert not client.exists(KEYS.lanes())
        assert not client.xlen(KEYS.replays)
