"""Selects one log of those known of a Job. Pure."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from jobcast.client.entry import text
from jobcast.client.errors import NotKept
from jobcast.client.record import Record, logs_of
from jobcast.event import Attempt, Ended, Log

_MOST_SHOWN = 10


class LogSelector(NamedTuple):
    """Which log of an evaluation; None is the default."""

    attempt: int | None = None
    container: str | None = None
    instance: int | None = None
    job: str | None = None


class KnownLogs(NamedTuple):
    """The known logs of one Job."""

    what: str
    """For messages: the evaluation, or its Job."""
    namespace: str
    name: str
    uid: str
    attempts: list[Attempt]
    is_ordered: bool
    """The attempts are in the order in which they started; else sorted by Pod name."""
    default: Log | None
    """The one behind the event's `output`."""
    logs: dict[tuple[str, str, int], Log]
    """By Pod, container and instance."""
    is_open: bool


def checked(which: LogSelector) -> LogSelector:
    """The same. Raises ValueError for impossible numbers."""
    if which.attempt is not None and which.attempt < 1:
        raise ValueError(f"attempt={which.attempt}: attempts are counted from 1")
    if which.instance is not None and which.instance < 0:
        raise ValueError(f"instance={which.instance}: a container's first instance is 0")
    return which


def known_of_record(record: Record) -> KnownLogs:
    event = record.event
    default = event.log if isinstance(event, Ended) else None
    of_attempts = [log for attempt in record.attempts for log in attempt.logs]
    return KnownLogs(
        what=f"evaluation {record.eval_id!r}",
        namespace=record.namespace,
        name=record.name,
        uid=record.uid,
        attempts=record.attempts or _guessed(record.logs),
        is_ordered=bool(record.attempts),
        default=default,
        # The last one counts: a log may be uploaded after the event was published.
        logs=_by_place([*of_attempts, *([default] if default else []), *record.logs]),
        is_open=not record.is_ended,
    )


def known_of_row(uid: str, fields: dict[str, Any]) -> KnownLogs:
    """Of a former Job, the ledger's row has the logs but not the attempts."""
    logs = logs_of(fields, [])
    name = text(fields.get("name"))
    return KnownLogs(
        what=f"Job {name!r}",
        namespace=text(fields.get("namespace")),
        name=name,
        uid=uid,
        attempts=_guessed(logs),
        is_ordered=False,
        default=None,
        logs=_by_place(logs),
        is_open=False,
    )


def select_log(known: KnownLogs, which: LogSelector) -> Log:
    """The selected log. Raises NotKept if it is not known."""
    default = known.default if which.attempt is None else None
    instance: int | None = None
    if default is not None and default.source is not None:
        pod, container = place_of(default)
        instance = default.instance
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
    """The names, at most ten of them."""
    shown = list(names)
    return ", ".join(shown[:_MOST_SHOWN]) + (", …" if len(shown) > _MOST_SHOWN else "")


def _attempt(known: KnownLogs, number: int | None) -> Attempt:
    """Raises NotKept if there is none of that number, or it is not known which one is the last."""
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
    """The error for an unknown log, with its likely cause."""
    if there:
        return NotKept(f"{known.what}: {what}; {hint}")
    why = "; a log is read after its container has ended" if known.is_open else ""
    return NotKept(f"{known.what}: {what}{why}", known.default)


def _guessed(logs: Iterable[Log]) -> list[Attempt]:
    return [Attempt(pod=pod) for pod in sorted({place_of(log)[0] for log in logs})]


def _by_place(logs: Iterable[Log]) -> dict[tuple[str, str, int], Log]:
    return {(*place_of(log), log.instance): log for log in logs if log.source is not None}
