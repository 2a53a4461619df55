"""Compares what was published with what happened. Pure.

Redis may have had several lives: each time it is made to forget, what it held until then is kept as a life, and the last
one is what it holds at the end. In each of them, everything is published once and in order, and came to those who consume it. A Job
that the API server still shows must have been published in the last one; of a Job that is gone, any will do.
"""

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from chaos.truth import TERMINAL, Truth

BEFORE_SECONDS, AFTER_SECONDS = 60.0, 30.0
"""A Job that went so shortly before Redis forgot, or after, may have had its end in nothing but Redis: no process can publish it
again. Before: the longest that several faults at once keep an end from being published, or an entry from being read. After: until it
was looked at again."""
LAG_SECONDS = 2.0
"""Seconds by which a replica may have been behind when it was cut off."""
LEFT_OUT = re.compile(r"\n\[\.\.\. \d+ bytes left out \.\.\.\]\n")
"""Between the halves of an output that is too long."""
EXPLAINED_SHARE, EXPLAINED = 0.25, 10
"""Of the ends of Jobs with Pods, those whose exit code or log faults may have kept from us: the worst run had a tenth of the logs
and a hundredth of the codes. And so few of them say nothing."""


@dataclass(frozen=True, slots=True)
class PublishedEvent:
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
    log_bytes: int = 0
    """How much of it was read."""
    output: str = ""
    attempt_codes: tuple[int | None, ...] = ()
    """The exit codes that it has for the single attempts."""
    at: float = 0.0
    """When it was appended, on this machine's monotonic clock."""


@dataclass(frozen=True, slots=True)
class Forgetting:
    at: float
    until: float
    all_of_it: bool = True
    """False: what it knew well before `at` it still knows."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """The record of an evaluation."""

    uid: str
    status: str
    event: str
    """The id of its latest event."""


@dataclass(slots=True)
class Observed:
    """Everything that Jobcast published, as subscribers saw it."""

    lives: Sequence[Sequence[PublishedEvent]]
    forgettings: Sequence[Forgetting] = ()
    """With which each life but the last one ended."""
    received: Mapping[str, float] = field(default_factory=dict)
    """By the event's id, when the durable consumer first had it."""
    handled: frozenset[str] | None = None
    """Ids that workers handled; None: not checked."""
    records: Mapping[str, Recorded] = field(default_factory=dict)
    """By the evaluation's id."""
    open: Collection[str] = ()
    """uids that the ledger still holds open."""


@dataclass(slots=True)
class Verdict:
    wrong: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """By figure, the Jobs' uids."""
    counts: Counter[str] = field(default_factory=Counter)
    """By figure."""
    published: int = 0
    """Unique ids, over all lives."""
    forgotten: int = 0
    """Ends that no process can publish any more: the Job is deleted, and Redis lost its data."""
    unknown_codes: int = 0
    """Ends published without the exit code that the Pod had shown: no process saw it in time. The event says so; this is no bug."""
    with_code: int = 0
    """Ends published whose Pod had shown an exit code, and a log."""
    without_log: Counter[str] = field(default_factory=Counter)
    """Ends published without the log that there was, by the reason: it could not be read in time. The event says so; this is no bug."""
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
    "twice": "published twice in the stream",
    "order": "out of order",
    "after": "events after an end",
    "invented": "published and never true",
    "missing": "consumer's unique events missing",
    "unhandled": "worker's unique events missing",
    "code": "exit codes that are wrong",
    "log": "logs that are wrong",
    "output": "outputs that are not of the log",
    "contradictory": "ends that say less than their attempts",
    "uncoded": "exit codes missing, more than faults explain",
    "unlogged": "logs missing, more than faults explain",
    "record": "records that do not say so",
    "open": "left open in the ledger",
}
"""The figures that must be zero."""


def judge(truths: Iterable[Truth], observed: Observed) -> Verdict:
    by_uid = {truth.uid: truth for truth in truths if truth.uid}
    verdict = Verdict()
    last = observed.lives[-1]
    for life in observed.lives:
        _judge_life(life, by_uid, observed, verdict)
    ever = {published.id for life in observed.lives for published in life}
    now = {published.id for published in last}
    verdict.published = len(ever)
    for truth in by_uid.values():
        _judge_lost(truth, now if truth.gone is None else ever, observed, verdict)
        _judge_record(truth, now, observed, verdict)
        for fact in truth.facts:
            delay = observed.received.get(fact.id, fact.at) - fact.at
            if delay > verdict.longest_delay:
                verdict.longest_delay, verdict.slowest = delay, fact.id
    for published in {published.id: published for published in _to_be_read(observed)}.values():
        if published.id not in observed.received:
            verdict.add("missing", published.uid)
        if observed.handled is not None and published.id not in observed.handled:
            verdict.add("unhandled", published.uid)
    for published in {published.id: published for published in last}.values():
        _judge_end(published, by_uid.get(published.uid), verdict)
    _judge_silence(verdict)
    for uid in observed.open:
        verdict.add("open", uid)
    return verdict


def _to_be_read(observed: Observed) -> Iterator[PublishedEvent]:
    """Every entry except those that Redis lost before a reader had to have read them."""
    for life, forgetting in zip(observed.lives, observed.forgettings, strict=False):
        yield from (published for published in life if published.at < forgetting.at - BEFORE_SECONDS)
    yield from observed.lives[-1]


def _judge_life(
    life: Sequence[PublishedEvent], by_uid: Mapping[str, Truth], observed: Observed, verdict: Verdict
) -> None:
    seen: set[str] = set()
    highest: dict[str, int] = {}
    ended: set[str] = set()
    for published in life:
        truth = by_uid.get(published.uid)
        ranks = {fact.id: rank for rank, fact in enumerate(truth.facts)} if truth else {}
        if published.id in seen:
            verdict.add("twice", published.uid)
            continue
        seen.add(published.id)
        if published.uid in ended:
            verdict.add("after", published.uid)
        if published.status in TERMINAL:
            ended.add(published.uid)
        rank = ranks.get(published.id)
        if rank is None:
            if not (truth and _is_all_that_is_known(published, truth) and _is_excused(truth, observed)):
                verdict.add("invented", published.uid)
            continue
        if rank < highest.get(published.uid, -1):
            verdict.add("order", published.uid)
        highest[published.uid] = max(rank, highest.get(published.uid, -1))


def _judge_end(published: PublishedEvent, truth: Truth | None, verdict: Verdict) -> None:
    if truth is None or published.status not in ("completed", "failed"):
        return
    verdict.with_code += truth.exit_code is not None
    if published.exit_code is None:
        verdict.unknown_codes += truth.exit_code is not None
    elif published.exit_code != truth.exit_code:
        verdict.add("code", published.uid)
    if published.exit_code is None and truth.exit_code is not None and truth.exit_code in published.attempt_codes:
        verdict.add("contradictory", published.uid)
    if published.log_sha256 is None:
        if truth.log is not None:
            verdict.without_log[published.log_reason] += 1
    elif truth.log is None or published.log_sha256 != hashlib.sha256(truth.log).hexdigest():
        verdict.add("log", published.uid)
    if truth.log is not None and not _is_of_log(published, truth.log):
        verdict.add("output", published.uid)


def _is_of_log(published: PublishedEvent, log: bytes) -> bool:
    """What was read is at most all, and begins as the log does; what follows a gap stands somewhere behind it."""
    text = log.decode(errors="replace")
    head, *rest = LEFT_OUT.split(published.output, maxsplit=1)
    if published.log_bytes > len(log) or not text.startswith(head):
        return False
    return all(tail in text[len(head) :] for tail in rest)


def _judge_silence(verdict: Verdict) -> None:
    """A few ends without an exit code are no bug; all of them are."""
    explained = max(EXPLAINED, int(verdict.with_code * EXPLAINED_SHARE))
    for figure, missing in (("uncoded", verdict.unknown_codes), ("unlogged", verdict.without_log.total())):
        if missing > explained:
            verdict.counts[figure] = missing


def _judge_lost(truth: Truth, published: set[str], observed: Observed, verdict: Verdict) -> None:
    if truth.ends or truth.gone is not None:
        has_end = not truth.ends or bool(truth.ends & published)
    else:  # it waits until the ledger has it: what the ledger holds open is counted as such
        has_end = truth.uid in observed.open
    if has_end and truth.due <= published:
        return
    if any(_has_forgotten(forgetting, truth) for forgetting in observed.forgettings):
        verdict.forgotten += 1
    else:
        verdict.add("lost", truth.uid)


def _is_all_that_is_known(published: PublishedEvent, truth: Truth) -> bool:
    """Of a Job that went: that it was open, when Redis forgot its end; or that it failed, when it forgot that after the Job's Pods
    had gone, which alone could say that it never ran."""
    if published.status == "running":
        never_ran = all(fact.status != "running" for fact in truth.facts)
        return never_ran and truth.gone is not None and published.at > truth.gone
    return published.status == "cancelled"


def _is_excused(truth: Truth, observed: Observed) -> bool:
    return any(_went_about(forgetting, truth) for forgetting in observed.forgettings)


def _went_about(forgetting: Forgetting, truth: Truth) -> bool:
    at = truth.gone
    return at is not None and forgetting.at - BEFORE_SECONDS < at < forgetting.until + AFTER_SECONDS


def _has_forgotten(forgetting: Forgetting, truth: Truth) -> bool:
    """Whether possibly no process can publish it any more."""
    still_knows = truth.known_at is not None and truth.known_at < forgetting.at - LAG_SECONDS
    return _went_about(forgetting, truth) and (forgetting.all_of_it or not still_knows)


def _judge_record(truth: Truth, now: set[str], observed: Observed, verdict: Verdict) -> None:
    ends = truth.ends & now
    if not ends:
        return
    record = observed.records.get(truth.name)
    status = {fact.id: fact.status for fact in truth.facts}
    if record is None or record.uid != truth.uid or record.event not in ends or record.status != status[record.event]:
        verdict.add("record", truth.uid)
