"""Bytes of the API server to objects of ours. Pure.

A line or an item that cannot be decoded is skipped and counted. It is never a crash, and the others are not affected.

A new kind is one file beside this one, with three things:

1. A `msgspec.Struct` with the fields that are needed, among them `metadata: WireMeta`.
2. A function that flattens it to what is kept, and raises ValueError for an object that makes no sense.
3. `WIDGETS = Resource("example.dev", "v1", "widgets", Widget, flatten)`: group, version and plural as in a CRD.

`Api.pages` and `Api.watch` read it, `controller.reflector.Reflector` mirrors it, and `Permission("list", WIDGETS)` asks for it.
"""

from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

import msgspec

from jobcast.jobs.decode import Reading, WireJob, WirePod
from jobcast.jobs.model import Job, Pod, is_version
from jobcast.kube.errors import Status, from_status
from jobcast.wire import UNREADABLE

T = TypeVar("T")
"""What is kept of an object."""
W = TypeVar("W")
"""An object as the API server writes it."""
Skip = Callable[[str], None]
"""Called with the reason for each thing skipped: not_json, unknown_type, bad_object, cut_line."""

MAX_LINE_BYTES = 32 * 1024 * 1024
"""An object in etcd is at most 1.5 MiB; JSON of it can be several times that. More is not a line of a watch."""


class Change(msgspec.Struct, Generic[T], frozen=True, gc=False):
    """One event of a watch. A bookmark has no object: it only moves the version."""

    type: str
    """ADDED, MODIFIED, DELETED or BOOKMARK."""
    version: str
    object: T | None


class Page(msgspec.Struct, Generic[T], frozen=True):
    items: list[T]
    version: str
    """The list's resourceVersion: watch from here. The same on all pages of a list."""
    next: str
    """The continue token; empty on the last page."""


class _ListMeta(msgspec.Struct, rename="camel"):
    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")


class _List(msgspec.Struct, Generic[W]):
    metadata: _ListMeta
    items: list[W] | None = None


class _Event(msgspec.Struct, Generic[W], gc=False):
    type: str
    object: W


_raw_list = msgspec.json.Decoder(_List[msgspec.Raw])
_raw_event = msgspec.json.Decoder(_Event[msgspec.Raw])
_status = msgspec.json.Decoder(Status)
_TYPES = frozenset({"ADDED", "MODIFIED", "DELETED", "BOOKMARK"})


class Resource(Generic[T]):
    """A kind that is read: where it is served, and how its bytes become objects."""

    def __init__(self, group: str, version: str, name: str, wire: type[W], flatten: Callable[[Reading, W], T]) -> None:
        self.group = group
        """Of the API, as in RBAC rules; empty for the core group."""
        self.version = version
        self.name = name
        """The plural, as in paths, RBAC rules and metrics."""
        self._item: msgspec.json.Decoder[Any] = msgspec.json.Decoder(wire)
        self._list: msgspec.json.Decoder[Any] = msgspec.json.Decoder(_List[wire])  # type: ignore[valid-type]
        self._event: msgspec.json.Decoder[Any] = msgspec.json.Decoder(_Event[wire])  # type: ignore[valid-type]
        self._flatten: Callable[[Reading, Any], T] = flatten

    def path(self, namespace: str | None) -> str:
        """The collection's path; None is all namespaces."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        return f"{root}/namespaces/{namespace}/{self.name}" if namespace else f"{root}/{self.name}"

    def rule(self, *verbs: str) -> str:
        """The RBAC rule that grants these verbs."""
        quoted = ", ".join(f'"{verb}"' for verb in verbs)
        return f'apiGroups ["{self.group}"], resources ["{self.name}"], verbs [{quoted}]'

    def one(self, body: bytes, reading: Reading) -> T:
        """Raises msgspec.DecodeError or ValueError."""
        return self._flatten(reading, self._item.decode(body))

    def page(self, body: bytes, reading: Reading, skip: Skip) -> Page[T]:
        """Raises msgspec.DecodeError when it is no list at all; a bad item is skipped alone."""
        try:
            decoded = self._list.decode(body)
            wires: Iterable[Any] = decoded.items or ()
        except (msgspec.ValidationError, UnicodeDecodeError, RecursionError):
            decoded = _raw_list.decode(body)
            wires = (wire for item in decoded.items or () if (wire := self._try_item(item, skip)) is not None)
        if not is_version(decoded.metadata.resource_version):
            raise msgspec.ValidationError("it has no resourceVersion to watch from")
        items = [flat for wire in wires if (flat := self._try_flatten(wire, reading, skip)) is not None]
        return Page(items, decoded.metadata.resource_version, decoded.metadata.continue_)

    def change(self, line: bytes, reading: Reading, skip: Skip) -> Change[T] | None:
        """The event in a line; None when it was skipped. Raises KubeError for an ERROR event."""
        try:
            event = self._event.decode(line)
        except UNREADABLE:
            _raise_or_skip(line, skip)
            return None
        kind, meta = event.type, event.object.metadata
        if kind == "BOOKMARK":
            if not is_version(meta.resource_version):
                skip("bad_object")  # the API server would refuse a watch from there for ever
                return None
            return Change(kind, meta.resource_version, None)
        if kind not in _TYPES:
            _raise_or_skip(line, skip)
            return None
        flat = self._try_flatten(event.object, reading, skip)
        return Change(kind, meta.resource_version, flat) if flat is not None else None

    def _try_item(self, raw: msgspec.Raw, skip: Skip) -> Any:
        try:
            return self._item.decode(raw)
        except UNREADABLE:
            skip("bad_object")
            return None

    def _try_flatten(self, wire: Any, reading: Reading, skip: Skip) -> T | None:
        try:
            return self._flatten(reading, wire)
        except ValueError:
            skip("bad_object")
            return None


def _raise_or_skip(line: bytes, skip: Skip) -> None:
    """For a line that is not a change: raises the KubeError of an ERROR event, and counts anything else."""
    try:
        event = _raw_event.decode(line)
    except UNREADABLE:
        skip("not_json")
        return
    if event.type == "ERROR":
        try:
            raise from_status(_status.decode(event.object))
        except UNREADABLE:
            raise from_status(Status(code=500, message="an ERROR event without a Status")) from None
    skip("bad_object" if event.type in _TYPES else "unknown_type")


JOBS: Resource[Job] = Resource("batch", "v1", "jobs", WireJob, Reading.job)
PODS: Resource[Pod] = Resource("", "v1", "pods", WirePod, Reading.pod)


class Lines:
    """Chunks in, whole lines out; what is left at the end is a cut line."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> list[bytes]:
        """Raises ValueError when a line grows past MAX_LINE_BYTES."""
        lines = chunk.split(b"\n")
        lines[0] = self._rest + lines[0]
        self._rest = lines.pop()
        if len(self._rest) > MAX_LINE_BYTES:
            raise ValueError(f"a line of more than {MAX_LINE_BYTES} bytes")
        return lines

    @property
    def is_cut(self) -> bool:
        return bool(self._rest)
