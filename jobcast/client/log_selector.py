"""LogSelector log is meant, out of those that are known of a Job. Pure."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from jobcast.client.entry import text
from jobcast.client.errors import NotKept
from jobcast.client.record import Record, logs_of
from jobcast.event import Attempt, Ended, Log

_MOST_SHOWN = 10


class LogSelector(NamedTuple):
    """Which log of an evaluation; None is the usual one."""

    attempt: int | None = None
    container: str | None = None
    instance: int | None = None
    job: str | None = None


class KnownLogs(NamedTuple):
    """What is known of the logs of one Job."""

    what: str
    """For people: the evaluation, or its Job."""
    namespace: str
    name: str
    uid: str
    attempts: list[Attempt]
    is_ordered: bool
    """The attempts are in the order in which they started; else in that of their Pods' names."""
    usual: Log | None
    """The one behind the event's `output`."""
    logs: dict[tuple[str, str, int], Log]
    """By Pod, container and instance."""
    is_open: bool


def checked(which: LogSelector) -> LogSelector:
    """The same. Raises ValueError for numbers that nothing can have."""
    if which.attempt is not None and which.attempt < 1:
        raise ValueError(f"attempt={which.attempt}: attempts are counted from 1")
    if which.instance is not None and which.instance < 0:
        raise ValueError(f"instance={which.instance}: a container's first instance is 0")
    return which


def known_of_record(record: Record) -> KnownLogs:
    event = record.event
    usual = event.log if isinstance(event, Ended) else None
    told = [log for attempt in record.attempts for log in attempt.logs]
    return KnownLogs(
        what=f"evaluation {record.eval_id!r}",
        namespace=record.namespace,
        name=record.name,
        uid=record.uid,
        attempts=record.attempts or _guessed(record.logs),
        is_ordered=bool(record.attempts),
        usual=usual,
        # The last one counts: what was filled in later, after the event had been told.
        logs=_by_place([*told, *([usual] if usual else []), *record.logs]),
        is_open=not record.is_ended,
    )


def known_of_row(uid: str, fields: dict[str, Any]) -> KnownLogs:
    """The ledger's row has of a former Job its logs, and nothing of its attempts."""
    logs = logs_of(fields, [])
    name = text(fields.get("name"))
    return KnownLogs(
        what=f"Job {name!r}",
        namespace=text(fields.get("namespace")),
        name=name,
        uid=uid,
        attempts=_guessed(logs),
        is_ordered=False,
        usual=None,
        logs=_by_place(logs),
        is_open=False,
    )


def chosen(known: KnownLogs, which: LogSelector) -> Log:
    """What is known of the log that is meant. Raises NotKept when nothing is."""
    usual = known.usual if which.attempt is None else None
    instance: int | None = None
    if usual is not None and usual.source is not None:
        pod, container = place_of(usual)
        instance = usual.instance
    else:
        attempt = _attempt(known, which.attempt)
        pod, container = attempt.pod, attempt.container or ""
    if which.container not in (None, container):
        container, instance = which.container or "", None
    there = sorted({its for its_pod, its, _ in known.logs if its_pod == pod})
    if not container:
        if len(there) != 1:
            raise _unknown(known, f"no log of a container of {pod} is known", f"choose one of {some(there)}", there)
        container = there[0]
    instances = sorted(of for its_pod, its, of in known.logs if (its_pod, its) == (pod, container))
    if not instances:
        raise _unknown(known, f"no log of {pod}/{container} is known", f"there is one of {some(there)}", there)
    if which.instance is not None:
        instance = which.instance
    elif instance is None:
        instance = instances[-1]
    log = known.logs.get((pod, container, instance))
    if log is None:
        others = some(map(str, instances))
        raise NotKept(f"{known.what}: no instance {instance} of {pod}/{container} is known; there is {others}")
    return log


def place_of(log: Log) -> tuple[str, str]:
    """Pod and container."""
    pod, _, container = (log.source or "").partition("/")
    return pod, container


def some(names: Iterable[str]) -> str:
    """The names, not too many of them."""
    shown = list(names)
    return ", ".join(shown[:_MOST_SHOWN]) + (", …" if len(shown) > _MOST_SHOWN else "")


def _attempt(known: KnownLogs, number: int | None) -> Attempt:
    """Raises NotKept when there is none of that number, or none can be said to be the last."""
    count = len(known.attempts)
    if number is not None and number > count:
        there = f"there is {count}" if count == 1 else f"there are {count}" if count else "none is known"
        raise NotKept(f"{known.what} has no attempt {number}; {there}")
    if not count:
        raise _unknown(known, "none of its Pods is known")
    if number is None and count > 1 and not known.is_ordered:
        pods = some(attempt.pod for attempt in known.attempts)
        raise NotKept(
            f"{known.what} left logs of {count} Pods in no known order; choose an attempt, 1 to {count}: {pods}"
        )
    return known.attempts[(number or count) - 1]


def _unknown(known: KnownLogs, what: str, hint: str = "", there: Iterable[str] = ()) -> NotKept:
    """For want of anything about a log: why that may be."""
    if there:
        return NotKept(f"{known.what}: {what}; {hint}")
    why = "; a log is read when its container has ended" if known.is_open else ""
    return NotKept(f"{known.what}: {what}{why}", known.usual)


def _guessed(logs: Iterable[Log]) -> list[Attempt]:
    return [Attempt(pod=pod) for pod in sorted({place_of(log)[0] for log in logs})]


def _by_place(logs: Iterable[Log]) -> dict[tuple[str, str, int], Log]:
    return {(*place_of(log), log.instance): log for log in logs if log.source is not None}
