"""What names, labels, annotations and finalizers may look like, and how a real server words it. Pure."""

from __future__ import annotations

import re

from devcluster.errors import Obj

Cause = tuple[str, str, str]

_SUBDOMAIN = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_PART = r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_VALUE = rf"({_PART})?"
_SUBDOMAIN_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    f"end with an alphanumeric character (e.g. 'example.com', regex used for validation is '{_SUBDOMAIN}')"
)
_PART_RULE = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    f"character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '{_PART}')"
)
_VALUE_RULE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    f"'{_VALUE}')"
)
_STANDARD_FINALIZERS = ("orphan", "foregroundDeletion", "kubernetes")
MAX_ANNOTATIONS = 256 * 1024
"""Bytes of all annotations together."""


def metadata_causes(meta: Obj) -> list[Cause]:
    """Everything that is wrong with an object's metadata."""
    causes: list[Cause] = []
    name = meta["name"]
    if not re.fullmatch(_SUBDOMAIN, name):
        causes.append(_wrong("metadata.name", name, _SUBDOMAIN_RULE))
    elif len(name) > 253:
        causes.append(_wrong("metadata.name", name, "must be no more than 253 bytes"))
    causes += label_causes(meta.get("labels") or {}, "metadata.labels")
    annotations = meta.get("annotations") or {}
    for key in annotations:
        # Annotations may be written in capitals; labels may not.
        causes += _key_causes(key.lower(), "metadata.annotations")
    if sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items()) > MAX_ANNOTATIONS:
        causes.append(
            ("FieldValueTooLong", "metadata.annotations", f"Too long: may not be more than {MAX_ANNOTATIONS} bytes")
        )
    for place, finalizer in enumerate(meta.get("finalizers") or []):
        if "/" not in finalizer and finalizer not in _STANDARD_FINALIZERS:
            why = "name is neither a standard finalizer name nor is it fully qualified"
            causes.append(_wrong(f"metadata.finalizers[{place}]", finalizer, why))
    return causes


def label_causes(labels: Obj, field: str) -> list[Cause]:
    causes: list[Cause] = []
    for key, value in labels.items():
        causes += _key_causes(key, field)
        if len(value) > 63:
            causes.append(_wrong(field, value, "must be no more than 63 bytes"))
        if not re.fullmatch(_VALUE, value):
            causes.append(_wrong(field, value, _VALUE_RULE))
    return causes


def _key_causes(key: str, field: str) -> list[Cause]:
    prefix, slash, name = key.rpartition("/")
    if slash and not re.fullmatch(_SUBDOMAIN, prefix):
        return [_wrong(field, key, f"prefix part {_SUBDOMAIN_RULE}")]
    if len(name) > 63:
        return [_wrong(field, key, "name part must be no more than 63 bytes")]
    if not re.fullmatch(_PART, name):
        return [_wrong(field, key, _PART_RULE)]
    return []


def _wrong(field: str, value: str, why: str) -> Cause:
    return "FieldValueInvalid", field, f'Invalid value: "{value}": {why}'
