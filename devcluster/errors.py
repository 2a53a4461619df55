"""What a server says when it says no: `Status` bodies with the words of a real API server."""

from __future__ import annotations

from typing import Any

from devcluster.scheme import Resource

Obj = dict[str, Any]

REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    409: "Conflict",
    410: "Expired",
    415: "UnsupportedMediaType",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


class ApiError(Exception):
    """An answer other than success; `body` is the `Status` object as it goes over the wire."""

    def __init__(
        self,
        code: int,
        message: str,
        *,
        reason: str | None = None,
        details: Obj | None = None,
        metadata: Obj | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after = retry_after
        self.body: Obj = {"kind": "Status", "apiVersion": "v1", "metadata": metadata or {}, "status": "Failure"}
        self.body["message"] = message
        reason = REASONS.get(code) if reason is None else reason
        if reason:
            self.body["reason"] = reason
        if retry_after is not None:
            details = {**(details or {}), "retryAfterSeconds": retry_after}
        if details is not None:
            self.body["details"] = details
        self.body["code"] = code


def _details(resource: Resource, name: str) -> Obj:
    group = {"group": resource.group} if resource.group else {}
    return {"name": name, **group, "kind": resource.plural}


def not_found(resource: Resource, name: str) -> ApiError:
    return ApiError(404, f'{resource.qualified} "{name}" not found', details=_details(resource, name))


def no_such_path() -> ApiError:
    return ApiError(404, "the server could not find the requested resource", details={})


def already_exists(resource: Resource, name: str) -> ApiError:
    message = f'{resource.qualified} "{name}" already exists'
    return ApiError(409, message, reason="AlreadyExists", details=_details(resource, name))


def conflict(resource: Resource, name: str, why: str) -> ApiError:
    message = f'Operation cannot be fulfilled on {resource.qualified} "{name}": {why}'
    return ApiError(409, message, details=_details(resource, name))


def modified(resource: Resource, name: str) -> ApiError:
    why = "the object has been modified; please apply your changes to the latest version and try again"
    return conflict(resource, name, why)


def precondition(resource: Resource, name: str, field: str, asked: str, has: str) -> ApiError:
    kind = f"{resource.kind}.{resource.group}" if resource.group else resource.kind
    message = (
        f'Operation cannot be fulfilled on {kind} "{name}": the {field} in the precondition ({asked}) does not match the '
        f"{field} in record ({has}). The object might have been deleted and then recreated"
    )
    return ApiError(409, message, details={**_details(resource, name), "kind": resource.kind})


def bad_request(message: str) -> ApiError:
    return ApiError(400, message)


def invalid(resource: Resource, name: str, causes: list[tuple[str, str, str]]) -> ApiError:
    """`causes` are (reason, field, message), for example ("FieldValueRequired", "spec", "Required value")."""
    told = [f"{field}: {message}" for _, field, message in causes]
    text = told[0] if len(told) == 1 else f"[{', '.join(told)}]"
    kind = f"{resource.kind}.{resource.group}" if resource.group else resource.kind
    details = {
        **{key: value for key, value in _details(resource, name).items() if value},
        "kind": resource.kind,
        "causes": [{"reason": reason, "message": message, "field": field} for reason, field, message in causes],
    }
    return ApiError(422, f'{kind} "{name}" is invalid: {text}', details=details)


def forbidden(user: str, verb: str, resource: Resource, subresource: str, namespace: str, name: str) -> ApiError:
    """RBAC's refusal, word for word: operators search logs for exactly this sentence."""
    named = f'"{name}" ' if name else ""
    what = f"{resource.plural}/{subresource}" if subresource else resource.plural
    where = f'in the namespace "{namespace}"' if namespace else "at the cluster scope"
    message = (
        f'{resource.qualified} {named}is forbidden: User "{user}" cannot {verb} resource "{what}" '
        f'in API group "{resource.group}" {where}'
    )
    details: Obj = {**({"name": name} if name else {}), **({"group": resource.group} if resource.group else {})}
    return ApiError(403, message, details={**details, "kind": resource.plural})


def too_old(asked: int, oldest: int) -> ApiError:
    """A watch from a version that is forgotten. It travels inside the stream, as an ERROR event behind a 200."""
    return ApiError(410, f"too old resource version: {asked} ({oldest})")


def too_large(asked: int, current: int) -> ApiError:
    cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
    message = f"Timeout: Too large resource version: {asked}, current: {current}"
    return ApiError(504, message, details={"causes": [cause]}, retry_after=1)
