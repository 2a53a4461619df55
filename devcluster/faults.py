"""What can go wrong between a client and an API server, on demand.

A fault waits for requests it matches and fails as many as `add` says, or falls on the streams that are
open right now (`strike`). Other processes post the same JSON to `/devcluster/faults`.
"""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec

from devcluster.errors import REASONS, ApiError
from devcluster.errors import forbidden as rbac_forbidden
from devcluster.scheme import Target

Kind = Literal["status", "empty", "stall", "cut", "expire", "garbage", "lost", "end"]

GARBAGE: dict[str, bytes] = {
    "text": b"this is not JSON\n",
    "half": b'{"type":"MODIFIED","object":{"kind":"Jo\n',
    "type": b'{"type":"MYSTERY","object":{"kind":"Job","apiVersion":"batch/v1","metadata":{"name":"x"}}}\n',
    "statusless": b'{"type":"MODIFIED","object":{"kind":"Job","apiVersion":"batch/v1","metadata":'
    b'{"name":"statusless","namespace":"default","uid":"00000000-0000-4000-8000-000000000000",'
    b'"resourceVersion":"1"}}}\n',
}


TOO_MANY = "Too many requests, please try again later."


class Fault(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """One thing going wrong. Fields left empty match everything."""

    kind: Kind
    """`lost`, for logs: the node has no such log any more, which it says with a 200 and a sentence for a body, `message`. `end`, for
    logs: the API server loses the kubelet, and ends its answer as if it were whole."""
    verb: str | None = None
    """get, list, watch, create, update, patch, delete, deletecollection; `log` is reading a log."""
    resource: str | None = None
    namespace: str | None = None
    name: str | None = None
    token: str | None = None
    """The bearer token that a request must carry: an expired one is a 401 for it, and for no other."""
    times: int | None = 1
    """Requests to spoil; None: all of them, until cleared."""

    code: int = 500
    """`status`: what is answered. 401, 403, 410, 429 and the rest carry the text of a real server."""
    message: str | None = None
    body: str | None = None
    """`status`: plain text instead of a Status object, as proxies and overloaded servers answer."""
    retry_after: int | None = None
    """`status`: seconds, in the Retry-After header."""

    after_bytes: int | None = None
    """`cut`, `end`, `stall`: bytes of the body that still pass. None with `after_events` None: nothing but the headers."""
    after_events: int | None = None
    """`cut`, `stall`, `expire`, `garbage` in a watch: whole events that still pass."""
    mid_line: bool = False
    """`cut`, `stall`: half of the next event passes as well."""
    seconds: float | None = None
    """`stall`: goes on after that long; None: never."""
    rst: bool = False
    """`cut`: with a TCP reset, instead of an orderly close."""
    garbage: Literal["text", "half", "type", "statusless"] = "text"
    """`garbage`: which. Text, half an object, an event of an unknown type, an object without status."""

    def matches(self, verb: str, target: Target, token: str = "") -> bool:
        verbs = ("log", "get") if target.subresource == "log" else (verb,)
        return (
            self.verb in (None, *verbs)
            and self.resource in (None, target.resource.plural)
            and self.namespace in (None, target.namespace)
            and self.name in (None, target.name)
            and self.token in (None, token)
        )

    @property
    def text(self) -> str | None:
        """The plain text to answer with, if it is to be no Status object. A server that sheds load has no time for one."""
        return f"{TOO_MANY}\n" if self.body is None and self.code == 429 and self.message is None else self.body

    def error(self, verb: str, target: Target, user: str) -> ApiError:
        if self.code == 403 and self.message is None:
            return rbac_forbidden(user, verb, target.resource, target.subresource, target.namespace, target.name)
        message = self.message or {
            401: "Unauthorized",
            410: "The resourceVersion for the provided list is too old.",
            429: TOO_MANY,
            500: "Internal error occurred: devcluster fails on request",
            503: "the server is currently unable to handle the request",
        }.get(self.code, REASONS.get(self.code, "Unknown"))
        return ApiError(self.code, message, retry_after=self.retry_after)


class Struck(Protocol):
    """An open stream, as faults see it."""

    verb: str
    target: Target

    def strike(self, fault: Fault) -> None: ...


class Faults:
    def __init__(self) -> None:
        self._waiting: list[Fault] = []
        self.streams: set[Struck] = set()
        """Watches and logs that are being sent at this moment."""

    def add(self, fault: Fault) -> Fault:
        """Spoil the coming requests that match."""
        self._waiting.append(fault)
        return fault

    def clear(self) -> None:
        self._waiting.clear()

    def waiting(self) -> list[Fault]:
        return list(self._waiting)

    def take(self, verb: str, target: Target, token: str) -> Fault | None:
        """The first fault that matches, used up by one."""
        for fault in self._waiting:
            if fault.matches(verb, target, token):
                if fault.times is not None:
                    fault.times -= 1
                    if fault.times <= 0:
                        self._waiting.remove(fault)
                return fault
        return None

    def strike(self, fault: Fault) -> int:
        """Spoil the matching streams that are open now; how many those were."""
        struck = [stream for stream in self.streams if fault.matches(stream.verb, stream.target)]
        for stream in struck:
            stream.strike(fault)
        return len(struck)
