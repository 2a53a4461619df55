"""The little protobuf that kubectl insists on: its typed commands (`create job`, `create namespace`, `auth can-i`) send
nothing else. Only the fields those commands fill are known; any other is refused rather than lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from devcluster.errors import ApiError, Obj

MAGIC = b"k8s\x00"

# Field number: name and kind. "s" text, "s*" list of texts, "i" number, "b" truth, "m" map of texts, "-" not needed;
# a dict is a message, a dict in a list is a list of messages. Numbers from Kubernetes' generated.proto files.
Schema = dict[int, tuple[str, Any]]
_META: Schema = {
    1: ("name", "s"),
    2: ("generateName", "s"),
    3: ("namespace", "s"),
    4: ("selfLink", "-"),
    5: ("uid", "-"),
    6: ("resourceVersion", "-"),
    7: ("generation", "-"),
    8: ("creationTimestamp", "-"),
    11: ("labels", "m"),
    12: ("annotations", "m"),
    14: ("finalizers", "s*"),
}
_ENV: Schema = {1: ("name", "s"), 2: ("value", "s")}
_CONTAINER: Schema = {
    1: ("name", "s"),
    2: ("image", "s"),
    3: ("command", "s*"),
    4: ("args", "s*"),
    5: ("workingDir", "s"),
    7: ("env", [_ENV]),
    8: ("resources", "-"),
    13: ("terminationMessagePath", "s"),
    14: ("imagePullPolicy", "s"),
    16: ("stdin", "-"),
    17: ("stdinOnce", "-"),
    18: ("tty", "-"),
    20: ("terminationMessagePolicy", "s"),
}
_POD_SPEC: Schema = {
    2: ("containers", [_CONTAINER]),
    3: ("restartPolicy", "s"),
    4: ("terminationGracePeriodSeconds", "i"),
    6: ("dnsPolicy", "s"),
    8: ("serviceAccountName", "s"),
    9: ("serviceAccount", "s"),
    10: ("nodeName", "s"),
    11: ("hostNetwork", "-"),
    12: ("hostPID", "-"),
    13: ("hostIPC", "-"),
    14: ("securityContext", "-"),
    16: ("hostname", "s"),
    17: ("subdomain", "s"),
    19: ("schedulerName", "s"),
    20: ("initContainers", [_CONTAINER]),
    24: ("priorityClassName", "s"),
}
_JOB_SPEC: Schema = {
    1: ("parallelism", "i"),
    2: ("completions", "i"),
    3: ("activeDeadlineSeconds", "i"),
    5: ("manualSelector", "b"),
    6: ("template", {1: ("metadata", _META), 2: ("spec", _POD_SPEC)}),
    7: ("backoffLimit", "i"),
    8: ("ttlSecondsAfterFinished", "i"),
    9: ("completionMode", "s"),
    10: ("suspend", "b"),
}
_ATTRIBUTES: Schema = {
    1: ("namespace", "s"),
    2: ("verb", "s"),
    3: ("group", "s"),
    4: ("version", "s"),
    5: ("resource", "s"),
    6: ("subresource", "s"),
    7: ("name", "s"),
}
_PATHS: Schema = {1: ("path", "s"), 2: ("verb", "s")}
_KINDS: dict[str, Schema] = {
    "Job": {1: ("metadata", _META), 2: ("spec", _JOB_SPEC), 3: ("status", "-")},
    "Pod": {1: ("metadata", _META), 2: ("spec", _POD_SPEC), 3: ("status", "-")},
    "Namespace": {1: ("metadata", _META), 2: ("spec", "-"), 3: ("status", "-")},
    "SelfSubjectAccessReview": {
        1: ("metadata", "-"),
        2: ("spec", {1: ("resourceAttributes", _ATTRIBUTES), 2: ("nonResourceAttributes", _PATHS)}),
        3: ("status", "-"),
    },
    "DeleteOptions": {1: ("gracePeriodSeconds", "i"), 3: ("orphanDependents", "b"), 4: ("propagationPolicy", "s")},
}


def decode(data: bytes) -> Obj:
    """The object in its envelope; raises 415 for what is not known here."""
    try:
        return _decode(data)
    except (IndexError, KeyError, ValueError) as error:
        message = f"devcluster reads only little protobuf, send application/json instead ({error})"
        raise ApiError(415, message) from error


def _decode(data: bytes) -> Obj:
    if not data.startswith(MAGIC):
        raise ValueError("no envelope")
    envelope = dict(_fields(data[len(MAGIC) :]))
    typed = {number: value.decode() for number, value in _fields(envelope[1])}
    kind = typed[2]
    return {"apiVersion": typed.get(1, ""), "kind": kind, **_message(envelope[2], _KINDS[kind])}


def _message(data: bytes, schema: Schema) -> Obj:
    found: Obj = {}
    for number, value in _fields(data):
        if number not in schema:
            raise ValueError(f"field {number} of a message with {schema[min(schema)][0]}")
        name, kind = schema[number]
        if kind == "s" and value:  # Go writes empty texts too; they mean nothing
            found[name] = value.decode()
        elif kind == "s*":
            found.setdefault(name, []).append(value.decode())
        elif kind == "i":
            found[name] = value
        elif kind == "b":
            found[name] = bool(value)
        elif kind == "m":
            entry = dict(_fields(value))
            found.setdefault(name, {})[entry[1].decode()] = entry.get(2, b"").decode()
        elif isinstance(kind, list):
            found.setdefault(name, []).append(_message(value, kind[0]))
        elif isinstance(kind, dict):
            found[name] = _message(value, kind)
    return found


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Number and value of each field: an int for varints, bytes for everything with a length."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield number, value
        elif wire == 2:
            length, at = _varint(data, at)
            yield number, data[at : at + length]
            at += length
        else:
            raise ValueError(f"wire type {wire}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
