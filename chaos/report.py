"""The figures, and the details of each Job with wrong events. Pure."""

from collections.abc import Iterator

from chaos.run import Result
from chaos.verdict import FIGURES

SHOWN = 20
"""How many wrong Jobs are shown in detail."""


def lines(result: Result, folder: str) -> Iterator[str]:
    """The lines to print, the figures last."""
    verdict = result.verdict
    if not verdict.is_green:
        yield from _wrong(result)
        yield ""
    if not result.is_green:
        yield f"note: the logs of all processes are in {folder}"
    for note in result.notes:
        yield f"note: {note}"
    for name, codes in result.deaths.items():
        yield f"note: {name} ended by itself, with code {', '.join(map(str, codes))}"
    plan = result.plan
    yield f"seed {plan.seed} · {len(plan.jobs)} Jobs · {sum(result.faults.values())} faults · {result.seconds:.0f} s"
    for kind, count in sorted(result.faults.items()):
        yield f"  {kind:40}{count:8}"
    rows = {
        "Jobs": len(plan.jobs),
        "faults": sum(result.faults.values()),
        "faults with data loss in Redis": len(result.observed.forgettings),
        "writes to the API server": result.writes,
        "replies of Redis that were lost": result.replies_lost,
        "unique events published": verdict.published,
        "entries that the consumer received": result.entries,
        "ends published without the exit code": verdict.unknown_codes,
        **{f"ends published without the log: {reason}": count for reason, count in sorted(verdict.without_log.items())},
        "ends lost by Redis, of Jobs that are deleted": verdict.forgotten,
    }
    for name, number in rows.items():
        yield f"{name:48}{number:8}"
    yield from _slowest(result)
    yield f"{'longest delay (s)':48}{verdict.longest_delay:8.1f}"
    yield f"{'at rest after the last fault (s)':48}{result.rest_seconds:8.1f}"
    for figure, name in FIGURES.items():
        yield f"{name:48}{verdict.counts[figure]:8}"
    yield f"{'processes that ended by themselves':48}{sum(map(len, result.deaths.values())):8}"
    yield f"{'other errors (see the notes)':48}{len(result.notes):8}"


def _slowest(result: Result) -> Iterator[str]:
    for truth in result.driver.truths.values():
        for fact in truth.facts:
            if fact.id == result.verdict.slowest:
                at = fact.at - result.begun
                yield f"{'slowest':24}{fact.status} of {truth.name} ({truth.fate}), which happened at {at:.1f} s"


def _wrong(result: Result) -> Iterator[str]:
    verdict, observed = result.verdict, result.observed
    by_uid = {truth.uid: truth for truth in result.driver.truths.values()}
    by_job: dict[str, list[str]] = {}
    for number, life in enumerate(observed.lives):
        for published in life:
            by_job.setdefault(published.uid, []).append(
                f"life {number}  {published.entry:20}{published.status:10}{published.id}"
            )
    shown: dict[str, list[str]] = {}
    for figure, uids in verdict.wrong.items():
        for uid in uids:
            shown.setdefault(uid, []).append(FIGURES[figure])
    for uid, figures in list(shown.items())[:SHOWN]:
        truth = by_uid.get(uid)
        yield f"{', '.join(figures)}: {truth.name if truth else '?'} {uid}"
        if truth is not None:
            gone = "" if truth.gone is None else f", gone at {truth.gone:.2f}"
            yield f"  fate {truth.fate}, created at {truth.created:.2f}{gone}"
            for fact in truth.facts:
                due = "due" if fact.id in truth.due | truth.ends else "   "
                got = observed.received.get(fact.id)
                when = "never received" if got is None else f"received after {got - fact.at:.2f} s"
                yield f"  was   {fact.at:12.2f}  {fact.version:>8}  {fact.status:10}{fact.id} {due} {when}"
            if record := observed.records.get(truth.name):
                yield f"  record {record.status} {record.event}"
        for line in by_job.get(uid, ["nothing"]):
            yield f"  published  {line}"
    if len(shown) > SHOWN:
        yield f"… and {len(shown) - SHOWN} more"
