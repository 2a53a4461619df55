"""Which events a handler or a route wants. Pure."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from jobcast.event import Event, Progress, Status

OneOrMore: TypeAlias = str | Collection[str]
PIPELINE_LABEL = "pipeline"
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Filter:
    """All conditions must hold; of several values in one condition, one must match."""

    statuses: frozenset[Status] = frozenset(Status)
    labels: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Compared with the event's `metadata`, which only has the labels that METADATA_LABELS lists."""
    namespaces: frozenset[str] = frozenset()
    """Empty means any."""

    def wants(self, event: Event) -> bool:
        return event.status in self.statuses and self.is_about(event)

    def is_about(self, message: Event | Progress) -> bool:
        """As `wants`, for any status."""
        return (not self.namespaces or message.job.namespace in self.namespaces) and all(
            message.metadata.get(label) in values for label, values in self.labels.items()
        )

    def unknown_labels(self, known: Collection[str]) -> list[str]:
        """Labels that it asks for and that no event has, if only the `known` ones are copied into `metadata`."""
        return sorted(set(self.labels) - set(known))


def filter_of(
    statuses: Collection[str],
    labels: Mapping[str, OneOrMore] | None = None,
    namespace: OneOrMore | None = None,
    pipeline: OneOrMore | None = None,
) -> Filter:
    """No statuses means all. Raises ValueError, with advice, for a wrong argument."""
    if labels is not None and not isinstance(labels, Mapping):
        raise ValueError(f"labels={labels!r}: it must be label and value, for example {{'team': 'a'}}")
    wanted = {label: _names(f"labels[{label!r}]", values) for label, values in (labels or {}).items()}
    if pipeline is not None:
        if PIPELINE_LABEL in wanted:
            raise ValueError("pipeline is the label `pipeline`: say it once")
        wanted[PIPELINE_LABEL] = _names("pipeline", pipeline)
    namespaces = _names("namespace", namespace) if namespace is not None else frozenset()
    for name in sorted(namespaces):
        if not _NAMESPACE.fullmatch(name):
            raise ValueError(f"namespace={name!r}: it must be a namespace's name (lower case letters, digits and -)")
    return Filter(frozenset(map(_status, statuses)) or frozenset(Status), wanted, namespaces)


def _status(name: str) -> Status:
    if name not in Status.__members__.values():
        raise ValueError(f"{name!r}: no such status; there are {', '.join(Status)}")
    return Status(name)


def _names(what: str, given: OneOrMore) -> frozenset[str]:
    names = [given] if isinstance(given, str) else given
    if (
        not isinstance(names, Collection)
        or isinstance(names, bytes | Mapping)
        or not names
        or not all(isinstance(name, str) and name for name in names)
    ):
        raise ValueError(f"{what}={given!r}: it must be text that is not empty, or a list of such")
    return frozenset(names)
