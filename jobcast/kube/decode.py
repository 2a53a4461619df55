"""Bytes to trimmed Jobs and Pods. Pure.

A line or an item that cannot be decoded is skipped and counted, never a crash: it costs nobody else anything.
"""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import msgspec

from jobcast.jobs.decode import Reading, WireJob, WirePod, is_version
from jobcast.jobs.model import Job, Pod
from jobcast.kube.errors import Status, from_status
from jobcast.wire import UNREADABLE

T = TypeVar("T", Job, Pod)
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


class _Jobs(msgspec.Struct):
    metadata: _ListMeta
    items: list[WireJob] | None = None


class _Pods(msgspec.Struct):
    metadata: _ListMeta
    items: list[WirePod] | None = None


class _RawList(msgspec.Struct):
    metadata: _ListMeta
    items: list[msgspec.Raw] | None = None


class _JobEvent(msgspec.Struct, gc=False):
    type: str
    object: WireJob


class _PodEvent(msgspec.Struct, gc=False):
    type: str
    object: WirePod


class _RawEvent(msgspec.Struct):
    type: str
    object: msgspec.Raw


_raw_list = msgspec.json.Decoder(_RawList)
_raw_event = msgspec.json.Decoder(_RawEvent)
_status = msgspec.json.Decoder(Status)
_TYPES = frozenset({"ADDED", "MODIFIED", "DELETED", "BOOKMARK"})


class Resource(Generic[T]):
    """A kind that is watched: where it is served, and how its bytes become objects."""

    def __init__(
        self, group: str, name: str, item: Any, page: Any, event: Any, flatten: Callable[[Reading, Any], T]
    ) -> None:
        self.group = group
        """Path of the API group: `api/v1` or `apis/batch/v1`."""
        self.name = name
        """The plural, as in paths, RBAC rules and metrics."""
        self._item: msgspec.json.Decoder[Any] = msgspec.json.Decoder(item)
        self._page: msgspec.json.Decoder[Any] = msgspec.json.Decoder(page)
        self._event: msgspec.json.Decoder[Any] = msgspec.json.Decoder(event)
        self._flatten: Callable[[Reading, Any], T] = flatten

    def path(self, namespace: str | None) -> str:
        """The collection's path; None is all namespaces."""
        return f"/{self.group}/namespaces/{namespace}/{self.name}" if namespace else f"/{self.group}/{self.name}"

    def one(self, body: bytes, reading: Reading) -> T:
        """Raises msgspec.DecodeError or ValueError."""
        return self._flatten(reading, self._item.decode(body))

    def page(self, body: bytes, reading: Reading, skip: Skip) -> Page[T]:
        """Raises msgspec.DecodeError when it is no list at all; a bad item is skipped alone."""
        try:
            decoded = self._page.decode(body)
        except (msgspec.ValidationError, UnicodeDecodeError, RecursionError):
            raw = _raw_list.decode(body)
            wires: Any = [self._try_item(item, skip) for item in raw.items or ()]
            decoded = raw
        else:
            wires = decoded.items or ()
        if not is_version(decoded.metadata.resource_version):
            raise msgspec.ValidationError("it has no resourceVersion to watch from")
        items = [flat for wire in wires if wire is not None and (flat := self._try_flatten(wire, reading, skip))]
        return Page(items, decoded.metadata.resource_version, decoded.metadata.continue_)

    def change(self, line: bytes, reading: Reading, skip: Skip) -> Change[T] | None:
        """The event in a line; None when it was skipped. Raises KubeError for an ERROR event."""
        try:
            event = self._event.decode(line)
        except UNREADABLE:
            self._odd(line, skip)
            return None
        kind, meta = event.type, event.object.metadata
        if kind == "BOOKMARK":
            if not is_version(meta.resource_version):
                skip("bad_object")  # a watch from there would be refused for ever
                return None
            return Change(kind, meta.resource_version, None)
        if kind not in _TYPES:
            self._odd(line, skip)
            return None
        flat = self._try_flatten(event.object, reading, skip)
        return Change(kind, meta.resource_version, flat) if flat is not None else None

    def _odd(self, line: bytes, skip: Skip) -> None:
        """A line that is not one of ours: an error to raise, or something to count and pass over."""
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


JOBS: Resource[Job] = Resource("apis/batch/v1", "jobs", WireJob, _Jobs, _JobEvent, Reading.job)
PODS: Resource[Pod] = Resource("api/v1", "pods", WirePod, _Pods, _PodEvent, Reading.pod)


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
