"""One fate: a Job is brought to it, and what a plain subscriber got is compared with what is expected.

How a line of the table, and of a test, says what was published:

    running   suspended   completed 0   failed 3 BackoffLimitExceeded   failed - DeadlineExceeded   cancelled
    attempt-ended 3   index-finished 0   main-ended 0        of progress, with the exit code that it has
"""

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import redis.asyncio
import zstandard

from tests.api import Api, Obj, container
from tests.conftest import eventually
from tests.fates.stage import Stage
from tests.parts import TERMINAL, Told
from tests.published import complaints, complaints_of_hash


@dataclass(frozen=True)
class Job:
    name: str
    uid: str
    eval_id: str


@dataclass
class Line:
    """Of the table. A fate of several Jobs has a word for each."""

    expected: list[str] = field(default_factory=list)
    published: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    bytes: list[str] = field(default_factory=list)


class Fate:
    def __init__(self, stage: Stage, api: Api, published: Told, client: "redis.asyncio.Redis[bytes]") -> None:
        self.stage = stage
        self.api = api
        self.published = published
        self.redis = client
        self.line = Line()

    # What is done to the Job

    async def run(self, script: str = "true", *, name: str = "job", **options: Any) -> Job:
        """Create a Job, see `manifest`."""
        return await self.create(self.manifest(script, name=name, **options))

    async def create(self, manifest: Obj) -> Job:
        meta = (await self.api.create(manifest))["metadata"]
        return Job(meta["name"], meta["uid"], meta["labels"].get("eval-id") or meta["annotations"]["eval-id"])

    def manifest(
        self,
        script: str = "true",
        *,
        name: str = "job",
        eval_id: str = "",
        main: Obj | None = None,
        pod: Obj | None = None,
        annotations: dict[str, str] | None = None,
        finalizers: list[str] | None = None,
        **spec: Any,
    ) -> Obj:
        """A Job with one container and no retries. `main` and `pod` go into their specs, the rest into the Job's."""
        labels = {"app": "evaluation", "run": self.stage.run, "eval-id": eval_id or self.eval_id(name)}
        return {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {
                "name": name,
                "labels": labels,
                "annotations": annotations or {},
                "finalizers": finalizers or [],
            },
            "spec": {
                "backoffLimit": 0,
                **spec,
                "template": {
                    "spec": {
                        "restartPolicy": "Never",
                        "terminationGracePeriodSeconds": 1,
                        "containers": [container("main", script, **(main or {}))],
                        **(pod or {}),
                    }
                },
            },
        }

    def eval_id(self, name: str = "job") -> str:
        """Of which there is no second one in the whole run."""
        return f"{name}-{self.api.namespace.rpartition('-')[2]}"

    async def delete(self, job: Job, policy: str = "Background") -> None:
        await self.api.delete(f"{self.api.jobs}/{job.name}", policy)

    async def patch(self, job: Job, change: Obj, subresource: str = "") -> Obj:
        path = f"{self.api.jobs}/{job.name}" + (f"/{subresource}" if subresource else "")
        return await self.api.patch(path, change)

    async def let_go(self, job: Job) -> None:
        """Take off every finalizer."""
        await self.patch(job, {"metadata": {"finalizers": None}})

    # What was published

    async def ends(
        self,
        job: Job,
        *expected: str,
        progress: Iterable[str] = (),
        or_progress: Iterable[str] = (),
        seconds: float = 0,
    ) -> Obj:
        """Wait for the end and compare all that was published of the Job, on the channels and in the stream; the end."""
        counted = Counter(progress)
        self.line.expected.append(", ".join([*expected, *_counted(counted)]))
        try:
            await eventually(lambda: self._ends(job), seconds or self.stage.seconds)
            await eventually(lambda: self._is_in_the_stream(job), 5)
        finally:
            published = self.told_of(job)
            moved = Counter(_in_short(event) for event in self.progress(job))
            self.line.published.append(", ".join([*published, *_counted(moved)]))
        assert published == list(expected), self.events(job)
        assert moved in (counted, Counter(or_progress)) if or_progress else moved == counted, self.progress(job)
        self._check(job)
        end = self._ends(job)[0]
        self.line.log.append(_log_in_short(end))
        return end

    def events(self, job: Job) -> list[Obj]:
        """What its channels have said so far."""
        return [event for event in self.published.heard if event["job"]["uid"] == job.uid]

    def told_of(self, job: Job) -> list[str]:
        return [_in_short(event) for event in self.events(job)]

    def progress(self, job: Job) -> list[Obj]:
        return [event for event in self.published.progress if event["job"]["uid"] == job.uid]

    async def until(self, job: Job, status: str, times: int = 1) -> Obj:
        """The event with this status, once it has been published so often."""

        def found() -> list[Obj]:
            events = [event for event in self.events(job) if event["status"] == status]
            return events if len(events) >= times else []

        events: list[Obj] = await eventually(found, self.stage.seconds)
        return events[-1]

    async def moves(self, job: Job, kind: str) -> Obj:
        """The first message of this kind on the channel of progress."""
        found = await eventually(
            lambda: [event for event in self.progress(job) if event["kind"] == kind], self.stage.seconds
        )
        event: Obj = found[0]
        return event

    async def record(self, job: Job) -> dict[str, Any]:
        """The evaluation's record, its JSON decoded."""
        said = await self.redis.hgetall(f"{{evaluation}}:eval:{job.eval_id}")
        found = {key.decode(): value.decode() for key, value in said.items()}
        assert not found or complaints_of_hash("record", found) == []
        return {key: json.loads(value) if value[:1] in ("{", "[") else value for key, value in found.items()}

    async def says(self, job: Job, name: str, check: Any = bool) -> Any:
        """That field of the record, once it fulfils `check`."""

        async def found() -> Any:
            value = (await self.record(job)).get(name)
            return value if check(value) else None

        return await eventually(found, self.stage.seconds)

    async def is_log(self, log: Obj, expected: bytes, state: str = "complete", reason: str | None = None) -> None:
        """That these bytes were read, all of them, and that they are where `ref` leads."""
        assert (log["state"], log["reason"]) == (state, reason), log
        assert (log["bytes"], log["sha256"]) == (len(expected), hashlib.sha256(expected).hexdigest()), log
        if not expected:
            assert log["ref"] is None, log
            self.line.bytes.append("empty")
            return
        kept = await self.kept(log)
        equal = kept == expected if reason is None else expected.startswith(kept[: len(kept) // 2])
        self.line.bytes.append(("yes" if reason is None else f"{len(kept)} of {len(expected)}") if equal else "NO")
        assert equal, (kept[:200], expected[:200])

    async def has_seen_first_line(self, job: Job) -> bool:
        """Whether the controller has noted when the log of a container of it began."""
        fields = await self.redis.hkeys(f"{{evaluation}}:job:{job.uid}")
        return any(name.startswith(b"first:") for name in fields)

    async def kept(self, log: Obj) -> bytes:
        """What `ref` leads to."""
        assert log["ref"] is not None, log
        key = log["ref"].removeprefix("redis:")
        found = await self.redis.get(key)
        assert found is not None, f"nothing at {key}"
        with zstandard.ZstdDecompressor().stream_reader(found) as reader:
            return reader.read()

    def _ends(self, job: Job) -> list[Obj]:
        return [event for event in self.events(job) if event["status"] in TERMINAL]

    async def _is_in_the_stream(self, job: Job) -> bool:
        return [e for e in await self.published.stream() if e["job"]["uid"] == job.uid] == self.events(job)

    def _check(self, job: Job) -> None:
        """What holds of all that is published of any Job."""
        everything = [event for event in self.published.everything if event["job"]["uid"] == job.uid]
        assert self.published.mistakes == []
        assert [line for event in everything for line in complaints(event)] == []
        assert everything[-1]["status"] in TERMINAL, "something was published after the end"
        assert len({event["id"] for event in everything}) == len(everything), "an id was used twice"
        assert {event["eval_id"] for event in everything} == {job.eval_id}
        place = {"namespace": self.api.namespace, "name": job.name, "uid": job.uid}
        assert all(event["job"] == place for event in everything)


def _in_short(event: Obj) -> str:
    """As the table and the tests say it."""
    if "kind" in event:
        return f"{event['kind']} {_code(event['attempt'])}"
    if event["status"] == "completed":
        return f"completed {_code(event)}"
    if event["status"] == "failed":
        return f"failed {_code(event)} {event['reason']}"
    return str(event["status"])


def _code(published: Obj) -> str:
    return "-" if published["exit_code"] is None else str(published["exit_code"])


def _counted(words: Counter[str]) -> list[str]:
    return [f"{word} ×{times}" if times > 1 else word for word, times in sorted(words.items())]


def _log_in_short(end: Obj) -> str:
    log = end.get("log")
    if log is None:
        return "-"
    return f"{log['state']}: {log['reason']}" if log["reason"] else str(log["state"])


async def stays(condition: Callable[[], bool], seconds: float = 1.0) -> None:
    """Fails when `condition` ceases to hold within so long: the one way to see that nothing more is published."""
    deadline = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < deadline:
        assert condition()
        await asyncio.sleep(0.05)
