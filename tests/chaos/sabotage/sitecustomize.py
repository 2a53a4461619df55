"""Mistakes that the fault run has to find. On the PYTHONPATH of a part, CHAOS_SABOTAGE names the one that it makes:

    python -m chaos --devcluster --env PYTHONPATH=tests/chaos/sabotage --env CHAOS_SABOTAGE=acks-before-task

Each is a line or two of the product, changed as somebody might change them.
"""

import asyncio
import hashlib
import os
from collections.abc import Callable
from typing import Any


def records_before_publishing() -> None:
    """The row and the record first, the stream afterwards: two steps in place of one."""
    from jobcast.ledger import ledger

    # The script still counts, so that the second step knows what to append.
    start = ledger.SCRIPT.index("redis.call('XADD'")
    end = ledger.SCRIPT.index("\n    redis.call('PUBLISH', ARGV[at + 2], ARGV[at + 3])\n    fields[")
    ledger.SCRIPT = ledger.SCRIPT[:start] + "redis.call('TIME')[1] .. '000-0'" + ledger.SCRIPT[end:]
    ledger.SHA = hashlib.sha1(ledger.SCRIPT.encode()).hexdigest()
    step = ledger.Ledger.step

    async def in_two_steps(self: Any, asked: Any) -> Any:
        published = await step(self, asked)
        events = [one for one in asked.outgoing if one.status != ledger.PROGRESS]
        for one in events[-published.count :] if published.count else ():
            await asyncio.sleep(0.01)
            fields = ("id", one.id, "status", one.status, "eval_id", asked.eval_id, "event", one.body)
            await self.run("XADD", self.keys.events, "*", *fields)
        return published

    ledger.Ledger.step = in_two_steps  # type: ignore[method-assign]


def acks_before_task() -> None:
    """The worker acknowledges what it reads, then has it worked on."""
    from worker.dispatcher import Dispatcher
    from worker.entries import Entries

    take = Dispatcher.take

    def take_and_acknowledge(self: Any, entries: Any, again: Any) -> None:
        for entry, _ in entries:
            self._entries.finish(entry, "")
        take(self, entries, again)

    Dispatcher.take = take_and_acknowledge  # type: ignore[method-assign]
    # Which refuses to work on what is acknowledged, as it should.
    Entries.start = lambda *_: 1  # type: ignore[method-assign,assignment]


def ignores_versions() -> None:
    """The last step wins, whatever its version."""
    from jobcast.ledger import ledger

    text = ledger.SCRIPT.replace("version < published_version", "false")
    text = text.replace("version >= published_version", "true")
    assert text.count("published_version") < ledger.SCRIPT.count("published_version"), "nothing was sabotaged"
    ledger.SCRIPT, ledger.SHA = text, hashlib.sha1(text.encode()).hexdigest()


def forgets_who_vanished() -> None:
    """After a list, the Jobs that are missing from it are not reconciled."""
    from controller.namespace import JobStore
    from controller.upkeep import Upkeep
    from jobcast.ledger.ledger import Ledger

    async def sleep(self: Any, watch: Any) -> None:
        await asyncio.Event().wait()

    async def nobody(self: Any) -> list[str]:
        return []

    Upkeep.enqueue_vanished = sleep  # type: ignore[method-assign]
    JobStore.end = lambda self, version: None  # type: ignore[method-assign,misc,assignment]
    Ledger.open_uids = nobody  # type: ignore[method-assign]


def ignores_the_epoch() -> None:
    """Redis is trusted to keep every acknowledged write."""
    from jobcast.ledger.ledger import Ledger

    create = Ledger.__init__

    def deaf(self: Any, *args: Any, **options: Any) -> None:
        create(self, *args, **{**options, "on_data_loss": lambda reason: None})

    Ledger.__init__ = deaf  # type: ignore[method-assign]


def completes_without_proof() -> None:
    """The end of a log's stream is taken for the end of the log."""
    from jobcast.logs.read import LogBody

    for name in ("is_proved", "is_complete"):
        assert isinstance(getattr(LogBody, name), property), "nothing was sabotaged"
        setattr(LogBody, name, property(lambda self: True))


def compares_two_clocks() -> None:
    """A Pod that began before the Job did is of a former start: the kubelet's clock against the Job controller's."""
    from jobcast.jobs import observation

    assert callable(observation.is_from_former_start), "nothing was sabotaged"

    def is_from_former_start(job: Any, pod: Any, *more: Any) -> bool:
        if job.started is None or not (job.was_suspended or job.suspended):
            return False
        return any((one.started_at or job.started) < job.started for one in pod.containers)

    observation.is_from_former_start = is_from_former_start
    # Without the second line of defence, which takes an attempt of a former start rather than none.
    assert isinstance(observation.PodOutcome.ended_by_itself, property), "nothing was sabotaged"
    observation.PodOutcome.ended_by_itself = property(lambda self: False)


SABOTAGES: dict[str, Callable[[], None]] = {
    "records-before-publishing": records_before_publishing,
    "acks-before-task": acks_before_task,
    "ignores-versions": ignores_versions,
    "forgets-who-vanished": forgets_who_vanished,
    "ignores-the-epoch": ignores_the_epoch,
    "completes-without-proof": completes_without_proof,
    "compares-two-clocks": compares_two_clocks,
}

if name := os.environ.get("CHAOS_SABOTAGE"):
    SABOTAGES[name]()
