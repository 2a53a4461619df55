"""Which evaluations a command is about: ids, or all with certain labels."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from jobcast.cli.options import labels_of
from jobcast.cli.render.output import complain
from jobcast.cli.run import wrong
from jobcast.client import AsyncClient
from jobcast.client.listing import listing

NONE_FOUND = "No evaluations found."
"""As kubectl says it of resources."""


class Selection(NamedTuple):
    ids: tuple[str, ...]
    labels: Mapping[str, Sequence[str]]
    namespaces: tuple[str, ...]

    @property
    def is_one(self) -> bool:
        """Whether it is one id: the output then needs no names."""
        return len(self.ids) == 1


def selection(ids: list[str] | None, labels: list[str] | None, namespaces: list[str] | None) -> Selection:
    """Ends the command with code 2 if it is not either ids or labels."""
    if bool(ids) == bool(labels):
        raise wrong("EVAL", "give evaluation ids, or --label" + ("; not both" if ids else ""))
    chosen = Selection(tuple(dict.fromkeys(ids or ())), labels_of(labels), tuple(namespaces or ()))
    check_namespaces(chosen.namespaces)
    return chosen


def check_namespaces(namespaces: Sequence[str]) -> None:
    try:
        listing(namespace=namespaces or None)
    except ValueError as error:
        raise wrong("--namespace", error) from None


async def selected(jobcast: AsyncClient, chosen: Selection) -> list[str]:
    """The ids; says so if there are none. Raises ClientError."""
    if chosen.ids:
        return [one for one in chosen.ids if not chosen.namespaces or await _is_in(jobcast, one, chosen.namespaces)]
    records = jobcast.list(labels=chosen.labels, namespace=chosen.namespaces or None)
    found = [record.eval_id async for record in records]
    if not found:
        complain(NONE_FOUND)
    return found


async def _is_in(jobcast: AsyncClient, eval_id: str, namespaces: Sequence[str]) -> bool:
    record = await jobcast.get(eval_id)
    if record is not None and record.namespace in namespaces:
        return True
    complain(f"evaluation {eval_id!r} not found in namespace {' or '.join(namespaces)}")
    return False
