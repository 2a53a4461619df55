"""One target per decoder: bytes in, and what must hold whatever they are."""

import copy
import hashlib
import io
import json
import os
import re
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any

import msgspec

from jobcast.client.effects import Call, Operation
from jobcast.client.entry import entries_of
from jobcast.client.errors import ClientError
from jobcast.client.record import read as read_record
from jobcast.client.waiting import _end_of, _eval_id_of
from jobcast.jobs.decode import Reading
from jobcast.keys import Keys
from jobcast.kube import JOBS, PODS, KubeError
from jobcast.kube.decode import Lines
from jobcast.logs.excerpt import Excerpt
from jobcast.redis.connection import masked
from jobcast.service.settings import read
from jobcast.wire import UNREADABLE, MalformedEvent, decode, decode_progress
from tests.unit.objects import condition, ended_state, job_json, pod_json
from worker.settings import WorkerSettings

Target = Callable[[bytes], None]
READING = Reading()
SECRET = "hunter2"  # noqa: S105 - not a real one
JOB = job_json(conditions=[condition("Complete")], annotations={"timeout": "5s"})
POD = pod_json(ended_state(), annotations={"batch.kubernetes.io/job-completion-index": "3"})
EVENTS: list[object] = [
    {"type": "ADDED", "object": JOB},
    {"type": "MODIFIED", "object": POD},
    {"type": "ERROR", "object": {"kind": "Status", "code": 410, "details": {"retryAfterSeconds": 1, "causes": []}}},
    {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "7"}}},
]
LISTS: list[object] = [{"metadata": {"resourceVersion": "7", "continue": "x"}, "items": [one]} for one in (JOB, POD)]
GOLDEN = sorted((Path(__file__).parents[1] / "tests/golden").glob("*.json"))
PUBLISHED: list[object] = [json.loads(path.read_bytes()) for path in GOLDEN]
NAMES = (
    "REDIS_URL",
    "CELERY_BROKER_URL",
    "LOG_STORE",
    "LABEL_SELECTOR",
    "ROUTES",
    "NAMESPACES",
    "HTTP_HOST",
    "HANDLERS",
)
LEFT_OUT = re.compile(r"\n\[\.\.\. (\d+) bytes left out \.\.\.\]\n")


def watch(data: bytes) -> None:
    """A watch: the first byte says how its bytes are split. Every line is a change, a refusal, or counted."""
    if len(data) < 2:
        return
    size, data = data[0] + 1, _grafted(data[1:], EVENTS)
    whole, parted = Lines(), Lines()
    lines = whole.feed(data)
    found = [line for at in range(0, len(data), size) for line in parted.feed(data[at : at + size])]
    assert found == lines
    assert whole.is_cut == parted.is_cut
    for resource in (JOBS, PODS):
        for line in lines:
            skipped: list[str] = []
            try:
                change = resource.change(line, READING, skipped.append)
            except KubeError:
                continue
            assert (change is None) == (len(skipped) == 1), skipped


def page(data: bytes) -> None:
    """A page of a list: a page, or no list at all."""
    data = _grafted(data, LISTS)
    for resource in (JOBS, PODS):
        skipped: list[str] = []
        try:
            found = resource.page(data, READING, skipped.append)
        except UNREADABLE:
            continue
        assert isinstance(found.version, str)
        assert isinstance(found.next, str)


def log(data: bytes) -> None:
    """A log, split as the first byte says: exact size and hash, and text within its bound."""
    if len(data) < 3:
        return
    limit, size, data = 2 + data[0], 1 + data[1], data[2:]
    excerpt = Excerpt(limit)
    for at in range(0, len(data), size):
        excerpt.feed(data[at : at + size])
    text = excerpt.text()
    assert (excerpt.size, excerpt.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    text.encode()  # no lone surrogates
    if excerpt.is_cut:
        assert LEFT_OUT.search(text)
        assert len(text) <= limit + len("\n[... 9999999 bytes left out ...]\n")
    else:
        assert text == data.decode(errors="replace")


def event(data: bytes) -> None:
    """An entry of the stream, a message of a channel: an event, or malformed; the same again when it is written again."""
    data = _grafted(data, PUBLISHED)
    for decoder in (decode, decode_progress):
        try:
            published = decoder(data)
        except MalformedEvent:
            continue
        again = decoder(msgspec.json.encode(published))
        assert repr(again) == repr(published)
    _eval_id_of(data)
    entries_of([(data, {b"event": data}), (None, None), (data, {data: data}), (data, None)])


def record(data: bytes) -> None:
    """A record that another client wrote: fields between NULs, names and values in turn."""
    parts = data.split(b"\x00")
    fields = dict(zip(parts[::2], parts[1::2], strict=False))
    found = _answered(read_record(Keys("evaluation"), "42"), fields)
    if found is not None:
        with suppress(MalformedEvent):
            _end_of(found)


def settings(data: bytes) -> None:
    """One setting, chosen by the first byte, with `data` in it and around a password: taken, or code 2 and one line."""
    text = data[1:].replace(b"\x00", b"").decode(errors="surrogateescape")
    name = NAMES[data[0] % len(NAMES)] if data else NAMES[0]
    for value in (text, f"redis://user:{text}{SECRET}@host:6379/0", f"s3://key:{text}{SECRET}@bucket"):
        _told_apart(name, value)
    assert SECRET not in masked(f"redis://user:{text}{SECRET}@host:6379/0")


def _grafted(data: bytes, stocks: list[object]) -> bytes:
    """The bytes as they are; or, when the first one is even, in the place of a value of something real."""
    if len(data) < 3 or data[0] % 2:
        return data[1:]
    stock = copy.deepcopy(stocks[(data[0] // 2) % len(stocks)])
    holder, key = (places := _places(stock))[data[1] % len(places)]
    holder[key] = "graft"
    return json.dumps(stock).encode().replace(b'"graft"', data[2:])


def _places(value: Any) -> list[tuple[Any, Any]]:
    found = []
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        found += [(value, key), *_places(value[key])]
    return found


def _told_apart(name: str, value: str) -> None:
    out, err = io.StringIO(), io.StringIO()
    os.environ[name] = value
    try:
        with redirect_stdout(out), redirect_stderr(err):
            read(WorkerSettings)
    except SystemExit:
        said = err.getvalue()
        assert said.startswith(f"{name}: "), said
        assert said.endswith("\n"), said
        assert said[:-1].isprintable(), said
        assert SECRET not in said, said
    assert out.getvalue() == ""
    del os.environ[name]


def _answered(program: Operation[object], reply: object) -> object:
    """Run a program of the client's whose every question has this answer."""
    try:
        effect = next(program)
        while True:
            assert isinstance(effect, Call)
            effect = program.send(reply)
    except StopIteration as stop:
        return stop.value
    except ClientError:
        return None


TARGETS: dict[str, Target] = {
    "watch": watch,
    "page": page,
    "log": log,
    "event": event,
    "record": record,
    "settings": settings,
}
