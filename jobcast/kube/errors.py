"""The errors of a request to the API server.

KubeError
├── Unreachable     no answer: refused, reset, timed out, cut
├── Expired         410: the resourceVersion or continue token is too old; list again
├── Unauthorized    401: the credentials are read again before the next try
├── Forbidden       403: a permission is missing; the message names it
├── NotFound        404
├── Invalid         422: the object is not valid; `fields` says where
└── Throttled       429 and 5xx: try later, after `retry_after` where the server sends it
"""

import msgspec


class _Cause(msgspec.Struct):
    field: str = ""


class _Details(msgspec.Struct, rename="camel"):
    retry_after_seconds: float | None = None
    causes: list[_Cause] | None = None


class Status(msgspec.Struct, rename="camel"):
    """The API server's Status object, as the body of an error and as the object of a watch's ERROR event."""

    code: int = 0
    reason: str = ""
    message: str = ""
    details: _Details | None = None


class KubeError(Exception):
    """`code` is the HTTP status, 0 where there was no answer."""

    def __init__(
        self,
        message: str,
        *,
        code: int = 0,
        reason: str = "",
        retry_after: float | None = None,
        fields: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.fields = fields
        """Paths of what is not valid, such as metadata.uid; empty where the server names none."""
        self.retry_after = retry_after
        """Seconds to wait, by the server's request; None without one."""


class Unreachable(KubeError):
    pass


class Expired(KubeError):
    pass


class Unauthorized(KubeError):
    pass


class Forbidden(KubeError):
    pass


class NotFound(KubeError):
    pass


class Invalid(KubeError):
    pass


class Throttled(KubeError):
    pass


_BY_CODE: dict[int, type[KubeError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    410: Expired,
    422: Invalid,
    429: Throttled,
}
_status = msgspec.json.Decoder(Status)

LONGEST_RETRY_AFTER_SECONDS = 300.0
"""API servers ask for 1 to 30 s. A proxy that asks for a day must not stop us for so long."""


def from_status(status: Status, *, retry_after: float | None = None) -> KubeError:
    kind = _BY_CODE.get(status.code) or (Throttled if status.code >= 500 else KubeError)
    if retry_after is None and status.details is not None:
        retry_after = status.details.retry_after_seconds
    if retry_after is not None:
        retry_after = min(retry_after, LONGEST_RETRY_AFTER_SECONDS) if retry_after >= 0 else None
    message = status.message or status.reason or f"HTTP {status.code}"
    causes = (status.details.causes if status.details is not None else None) or ()
    fields = frozenset(cause.field for cause in causes)
    return kind(message, code=status.code, reason=status.reason, retry_after=retry_after, fields=fields)


def from_response(code: int, body: bytes, retry_after: str | None) -> KubeError:
    """The error in a response. Of a proxy's HTML only the code counts."""
    try:
        status = _status.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        status = Status(message=f"HTTP {code}: {body[:200].decode(errors='replace').strip()}")
    status.code = code
    seconds = float(retry_after) if retry_after and retry_after.strip().isdecimal() else None
    return from_status(status, retry_after=seconds)
