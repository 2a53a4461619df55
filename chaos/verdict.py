"""What was told against what was. Pure.

Redis may have had several lives: each time it is made to forget, what it held until then is kept as a life, and the last
one is what it holds at the end. In each of them, everything is told once and in order. A Job that the API server still
shows must have been told in the last one; of a Job that is gone, any will do.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from chaos.truth import TERMINAL, Truth

BEFORE_SECONDS, AFTER_SECONDS = 60.0, 30.0
"""A Job that went so shortly before Redis forgot, or after, may have had its end in nothing but Redis: nobody can tell it
again. Before: the longest that several faults at once keep an end from being told. After: until it was looked at again."""


@dataclass(frozen=True, slots=True)
class Told:
    """An entry of the stream."""

    entry: str
    id: str
    status: str
    uid: str
    exit_code: int | None = None
    log_sha256: str | None = None
    """Of a log that is said to be complete."""
    log_reason: str = ""
    """Why it is not."""


@dataclass(frozen=True, slots=True)
class Forgetting:
    at: float
    until: float


@dataclass(frozen=True, slots=True)
class Recorded:
    """The record of an evaluation."""

    uid: str
    status: str
    event: str
    """The id of its latest event."""


@dataclass(slots=True)
class Observed:
    """All that was heard of Jobcast."""

    lives: Sequence[Sequence[Told]]
    forgettings: Sequence[Forgetting] = ()
    received: Mapping[str, float] = field(default_factory=dict)
    """By the event's id, when the durable consumer first had it."""
    handled: frozenset[str] | None = None
    """Ids that workers handled; None: nobody looked."""
    records: Mapping[str, Recorded] = field(default_factory=dict)
    """By the evaluation's id."""
    open: Iterable[str] = ()
    """uids that the ledger still holds open."""


@dataclass(slots=True)
class Verdict:
    wrong: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """By figure, the Jobs' uids."""
    counts: Counter[str] = field(default_factory=Counter)
    """By figure."""
    told: int = 0
    """Unique ids, over all lives."""
    forgotten: int = 0
    """Ends that nobody can tell any more: the Job is gone, and Redis was made to forget."""
    unknown_codes: int = 0
    """Ends told without the exit code that the Pod had shown: nobody had seen it in time, which is said and no mistake."""
    without_log: Counter[str] = field(default_factory=Counter)
    """Ends told without the log that there was, by the reason: it could not be read in time, which is said and no mistake."""
    longest_delay: float = 0.0
    slowest: str = ""
    """The id of the event that took it."""

    @property
    def is_green(self) -> bool:
        return not any(self.counts.values())

    def add(self, figure: str, uid: str) -> None:
        self.counts[figure] += 1
        self.wrong[figure].add(uid)


FIGURES = {
    "lost": "lost",
    "twice": "told twice in the stream",
    "order": "out of order",
    "after": "events after an end",
    "invented": "told and never true",
    "missing": "consumer's unique events missing",
    "unhandled": "worker's unique events missing",
    "code": "exit codes that are wrong",
    "log": "logs that are wrong",
    "record": "records that do not say so",
    "open": "left open in the ledger",
}
"""All that has to be zero."""


def judge(truths: Iterable[Truth], observed: Observed) -> Verdict:
    by_uid = {truth.uid: truth for truth in truths if truth.uid}
    verdict = Verdict()
    last = observed.lives[-1]
    for life in observed.lives:
        _judge_life(life, by_uid, observed, verdict)
    ever = {told.id for life in observed.lives for told in life}
    now = {told.id for told in last}
    verdict.told = len(ever)
    for truth in by_uid.values():
        _judge_lost(truth, now if truth.gone is None else ever, observed, verdict)
        _judge_record(truth, now, observed, verdict)
        for fact in truth.facts:
            delay = observed.received.get(fact.id, fact.at) - fact.at
            if delay > verdict.longest_delay:
                verdict.longest_delay, verdict.slowest = delay, fact.id
    for told in {told.id: told for told in last}.values():
        if told.id not in observed.received:
            verdict.add("missing", told.uid)
        _judge_end(told, by_uid.get(told.uid), verdict)
        if observed.handled is not None and told.id not in observed.handled:
            verdict.add("unhandled", told.uid)
    for uid in observed.open:
        verdict.add("open", uid)
    return verdict


def _judge_life(life: Sequence[Told], by_uid: Mapping[str, Truth], observed: Observed, verdict: Verdict) -> None:
    seen: set[str] = set()
    highest: dict[str, int] = {}
    ended: set[str] = set()
    for told in life:
        truth = by_uid.get(told.uid)
        ranks = {fact.id: rank for rank, fact in enumerate(truth.facts)} if truth else {}
        if told.id in seen:
            verdict.add("twice", told.uid)
            continue
        seen.add(told.id)
        if told.uid in ended:
            verdict.add("after", told.uid)
        if told.status in TERMINAL:
            ended.add(told.uid)
        rank = ranks.get(told.id)
        if rank is None:
            # An end that Redis forgot, of a Job that is gone: what it still knows of it is that it was open.
            if not (truth and told.status == "cancelled" and _is_excused(truth, observed)):
                verdict.add("invented", told.uid)
            continue
        if rank < highest.get(told.uid, -1):
            verdict.add("order", told.uid)
        highest[told.uid] = max(rank, highest.get(told.uid, -1))


def _judge_end(told: Told, truth: Truth | None, verdict: Verdict) -> None:
    if truth is None or told.status not in ("completed", "failed"):
        return
    if told.exit_code is None:
        verdict.unknown_codes += truth.exit_code is not None
    elif told.exit_code != truth.exit_code:
        verdict.add("code", told.uid)
    if told.log_sha256 is None:
        if truth.log_sha256 is not None:
            verdict.without_log[told.log_reason] += 1
    elif told.log_sha256 != truth.log_sha256:
        verdict.add("log", told.uid)


def _judge_lost(truth: Truth, told: set[str], observed: Observed, verdict: Verdict) -> None:
    has_end = not truth.ends or bool(truth.ends & told)
    if has_end and truth.due <= told:
        return
    if _is_excused(truth, observed):
        verdict.forgotten += 1
    else:
        verdict.add("lost", truth.uid)


def _is_excused(truth: Truth, observed: Observed) -> bool:
    return truth.gone is not None and any(
        forgetting.at - BEFORE_SECONDS < truth.gone < forgetting.until + AFTER_SECONDS
        for forgetting in observed.forgettings
    )


def _judge_record(truth: Truth, now: set[str], observed: Observed, verdict: Verdict) -> None:
    ends = truth.ends & now
    if not ends:
        return
    record = observed.records.get(truth.name)
    status = {fact.id: fact.status for fact in truth.facts}
    if record is None or record.uid != truth.uid or record.event not in ends or record.status != status[record.event]:
        verdict.add("record", truth.uid)
