"""Reads a range of a stream page by page, in bounded memory here and in Redis.

Redis selects the entries, so that the bodies of a million entries are not sent to find those of one evaluation.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jobcast.client.effects import Call, Give, Operation, Ready
from jobcast.client.entry import text
from jobcast.client.record import retry_once
from jobcast.ledger.groups import order

PAGE = 100
"""Entries in one reply: some megabytes with the longest default excerpts or tracebacks."""
_PAGE_SCRIPT = """
local field, is_bare, wanted, found = ARGV[4], ARGV[5] == '1', {}, {}
for i = 6, #ARGV do wanted[ARGV[i]] = true end
local page = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[2], 'COUNT', ARGV[3])
for _, entry in ipairs(page) do
  local value
  for i = 1, #entry[2], 2 do
    if entry[2][i] == field then value = entry[2][i + 1] end
  end
  if #ARGV < 6 or not value or wanted[value] then
    found[#found + 1] = { entry[1], is_bare and { field, value or '' } or entry[2] }
  end
end
return { #page, #page > 0 and page[#page][1] or '', found }
"""


class Span(NamedTuple):
    """A range of a stream, and which of its entries."""

    stream: str
    first: str
    last: str
    field: str = ""
    values: Sequence[str] = ()
    """Only entries whose `field` has one of these values or is missing; empty: all."""
    is_bare: bool = False
    """Only that field of each entry."""


class Found(NamedTuple):
    """An entry with its raw fields."""

    entry_id: str
    fields: Mapping[str, bytes]


class Page(NamedTuple):
    entries: list[Found]
    last: str
    """The id of the last entry that was read."""


def scan(span: Span) -> Operation[None]:
    """Gives pages, also empty ones. Raises Unavailable or Refused."""
    place = span.first
    yield Ready()
    while True:
        count, page = yield from retry_once(lambda: _page(span, place))  # noqa: B023 - called at once
        if count:
            yield Give(page)
            place = f"({page.last}"
        if count < PAGE:
            return


def last_of(stream: str) -> Operation[str | None]:
    """The id of the last entry, or None. Raises Unavailable or Refused."""

    def last() -> Operation[str | None]:
        pairs = yield Call(("XREVRANGE", stream, "+", "-", "COUNT", 1))
        return text(pairs[0][0]) if pairs else None

    return retry_once(last)


def progress(span: Span, entry_id: str) -> float:
    """How much of the span is read with that entry, from 0 to 1, by the times of the entries."""
    first, last, at = (order(place.removeprefix("("))[0] for place in (span.first, span.last, entry_id))
    return min(max((at - first) / (last - first), 0.0), 1.0) if last > first else 1.0


def _page(span: Span, place: str) -> Operation[tuple[int, Page]]:
    limits = (place, span.last, PAGE, span.field, int(span.is_bare))
    reply = yield Call(("EVAL", _PAGE_SCRIPT, 1, span.stream, *limits, *span.values), is_binary=True)
    count, last, found = reply
    return int(count), Page([Found(text(entry_id), _fields(flat)) for entry_id, flat in found], text(last))


def _fields(flat: Sequence[Any]) -> dict[str, bytes]:
    return {text(name): value for name, value in zip(flat[::2], flat[1::2], strict=True)}
