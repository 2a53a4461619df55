"""Odd JSON: real objects of the API server with a value replaced by whatever JSON can be, and bytes with accidents."""

import copy
import json
from typing import Any

from hypothesis import strategies as st

from tests.unit.objects import condition, container_json, ended_state, job_json, pod_json

SNIPPETS = [
    b"null",
    b"true",
    b"0",
    b"-1",
    b"1.5",
    b"1e30",
    b"1e400",
    b"-0",
    b"9" * 30,
    b"9" * 5000,
    b'""',
    b'" "',
    b'"x"',
    b'"-7"',
    b'"\xef\xbc\x97"',  # a digit, and none of ours
    b'"' + b"9" * 5000 + b'"',
    b'"2026-11-20T10:00:00Z"',
    b'"2026-11-20"',
    b'"0001-01-01T00:00:00"',
    b'"9999-12-31T23:59:59-23:59"',
    b'"\\ud800"',  # half a character
    b'"\\u0000\\n\\u001b[2J"',
    b'"\xff\xfe"',
    b'"' + b"long" * 5000 + b'"',
    b"[]",
    b"[null]",
    b'["x", 1, {}]',
    b"{}",
    b'{"x": null}',
    b'{"": ""}',
    b"[" * 3000 + b"]" * 3000,
    b'{"a":' * 3000 + b"1" + b"}" * 3000,
    b"{} {}",
    b"nul",
    b"NaN",
]
"""What a value of JSON can be, and what none can be."""

JOB = job_json(
    conditions=[
        condition("Suspended", "False"),
        condition("FailureTarget"),
        condition("Failed", reason="x", message="y"),
    ],
    annotations={"timeout": "5s", "jobcast/artifacts": "[]", "jobcast/container": "main"},
    spec={"completions": 3, "completionMode": "Indexed", "backoffLimit": 2, "activeDeadlineSeconds": 60},
    meta={"finalizers": ["jobcast.dev/outcome"], "deletionTimestamp": "2026-11-20T10:02:00Z"},
    startTime="2026-11-20T10:00:00Z",
    active=1,
    ready=1,
    failed=1,
    completedIndexes="0-1",
    failedIndexes="2",
)
POD = pod_json(
    containers=[
        container_json(ended_state(1, reason="Error", message="no"), lastState=ended_state(2)),
        container_json({"running": {"startedAt": "2026-11-20T10:00:02Z"}}, "side"),
    ],
    names=("main", "side"),
    annotations={"batch.kubernetes.io/job-completion-index": "1"},
    meta={"deletionTimestamp": "2026-11-20T10:02:00Z", "deletionGracePeriodSeconds": 30},
    init_specs=[{"name": "init", "restartPolicy": "Always"}],
    phase="Failed",
    reason="Evicted",
    message="The node was low on resource",
    conditions=[condition("DisruptionTarget"), condition("PodScheduled", "False")],
    initContainerStatuses=[container_json({"waiting": {"reason": "CrashLoopBackOff"}}, "init")],
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every key and index in it, with what it is a key or an index of."""
    found: list[tuple[Any, Any]] = []
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        found += [(value, key), *places(value[key])]
    return found


def grafted(real: Any, at: int, snippet: bytes) -> bytes:
    """The real one with the snippet in the place of one of its values."""
    real = copy.deepcopy(real)
    holder, key = (found := places(real))[at % len(found)]
    holder[key] = "graft"
    return json.dumps(real).encode().replace(b'"graft"', snippet)


def doubled(real: Any, at: int, snippet: bytes) -> bytes:
    """The real one with one of its keys twice."""
    real = copy.deepcopy(real)
    keys = [(holder, key) for holder, key in places(real) if isinstance(holder, dict)]
    holder, key = keys[at % len(keys)]
    holder["graft"] = holder[key]
    return (
        json.dumps(real).encode().replace(b'"graft":', json.dumps(key).encode() + b": " + snippet + b", " + b'"again":')
    )


def renamed(real: Any, at: int, _: bytes) -> bytes:
    """The real one without one of its keys."""
    real = copy.deepcopy(real)
    keys = [(holder, key) for holder, key in places(real) if isinstance(holder, dict)]
    holder, key = keys[at % len(keys)]
    holder["stranger"] = holder.pop(key)
    return json.dumps(real).encode()


def odd(real: Any) -> st.SearchStrategy[bytes]:
    """Something like it, in one line."""
    shapes = st.builds(
        lambda how, at, snippet: how(real, at, snippet),
        st.sampled_from([grafted, doubled, renamed]),
        st.integers(0, 500),
        st.sampled_from(SNIPPETS) | st.text(max_size=20).map(lambda text: json.dumps(text).encode()),
    )
    accidents = st.builds(
        lambda at, length, by: (data := json.dumps(real).encode())[:at] + by + data[at + length :],
        st.integers(0, 3000),
        st.integers(0, 40),
        st.binary(max_size=8),
    )
    return (shapes | accidents).map(lambda line: line.replace(b"\n", b" "))


def chunks(data: bytes, sizes: list[int]) -> list[bytes]:
    """The data in pieces of these sizes, and the rest of it."""
    found, at = [], 0
    for size in sizes:
        found.append(data[at : at + size])
        at += size
    return [*found, data[at:]]
