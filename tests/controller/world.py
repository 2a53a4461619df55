"""What a test of the controller sees of the world: the API server by HTTP, Redis as a subscriber, probes by HTTP."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import redis.asyncio
import redis.exceptions
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from controller.manager import Controller
from controller.settings import ControllerSettings
from devcluster import DevCluster, Fault
from devcluster.faults import Struck
from devcluster.server import Server
from jobcast.kube import Access
from tests.conftest import eventually
from tests.published import complaints

Obj = dict[str, Any]
MERGE = "application/merge-patch+json"
OURS = "X-Test"
"""Header of the test's own requests, which are no evidence of what the controller does."""
ENDS = ("completed", "failed", "cancelled")
AWAY = (redis.exceptions.RedisError, OSError, TimeoutError)


def container(name: str, script: str, **more: Any) -> Obj:
    return {"name": name, "image": "busybox:1", "command": ["sh", "-c", script], **more}


def make_job(
    name: str,
    script: str = "true",
    *,
    eval_id: str | None = "",
    containers: list[Obj] | None = None,
    pod: Obj | None = None,
    annotations: Obj | None = None,
    labels: Obj | None = None,
    **spec: Any,
) -> Obj:
    """A Job of one container, published under its name unless `eval_id` says otherwise (None: no label)."""
    own = {"app": "evaluation"} | ({"eval-id": eval_id or name} if eval_id is not None else {})
    template = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 1,
        "containers": containers or [container("main", script)],
        **(pod or {}),
    }
    meta = {"name": name, "labels": own | (labels or {}), "annotations": annotations or {}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": meta,
        "spec": {"backoffLimit": 0, **spec, "template": {"spec": template}},
    }


@dataclass
class Request:
    """One request of the controller, as the API server received it."""

    verb: str
    path: str
    query: dict[str, str]
    authorization: str
    at: float = field(default_factory=time.monotonic)


class Wiretap:
    """Every request but the test's own."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.before: Callable[[Request], None] = lambda request: None
        """Called with each request before it is answered: the place to put a fault in its way."""
        self.stale: dict[str, bytes] = {}
        """By path, what a list answers in place of the truth: a cache that has fallen behind."""
        self._handle = Server.handle

    def of(self, verb: str, resource: str = "", name: str = "") -> list[Request]:
        """Without the requests that prove where a log ends: they are no reads."""
        found = (r for r in self.requests if r.verb == verb and resource in r.path and name in r.path)
        return [r for r in found if "tailLines" not in r.query]

    async def handle(self, server: Server, request: web.Request) -> web.StreamResponse:
        if OURS not in request.headers:
            query = dict(request.query)
            verb = "watch" if query.get("watch") == "true" else request.method.lower()
            verb = "log" if request.path.endswith("/log") else verb
            verb = "list" if verb == "get" and request.path.endswith(("/jobs", "/pods")) else verb
            self.requests.append(Request(verb, request.path, query, request.headers.get("Authorization", "")))
            self.before(self.requests[-1])
            if verb == "list" and request.path in self.stale:
                return web.Response(body=self.stale[request.path], content_type="application/json")
        return await self._handle(server, request)


class Replica:
    """A controller that runs in this process."""

    def __init__(self, controller: Controller, task: "asyncio.Task[None]", session: aiohttp.ClientSession) -> None:
        self.controller = controller
        self.task = task
        self._session = session

    @property
    def url(self) -> str:
        assert self.controller.http_port is not None
        return f"http://127.0.0.1:{self.controller.http_port}"

    async def get(self, path: str) -> tuple[int, str]:
        async with self._session.get(self.url + path) as response:
            return response.status, await response.text()

    async def is_ready(self) -> bool:
        return (await self.get("/readyz"))[0] == 200

    async def why_not_ready(self) -> str:
        status, text = await self.get("/readyz")
        return text if status == 503 else ""

    async def metric(self, name: str, **labels: str) -> float:
        """Its value now; 0 for one that was never counted. Counters live as long as the process: compare two readings."""
        _, text = await self.get("/metrics")
        return sample(text, name, **labels)

    async def stop(self) -> None:
        self.controller.stop()
        await asyncio.wait_for(self.task, 60)


def sample(text: str, name: str, **labels: str) -> float:
    for family in text_string_to_metric_families(text):
        for one in family.samples:
            if one.name == name and labels.items() <= one.labels.items():
                return one.value
    return 0.0


class World:
    """A cluster with a fresh namespace, a Redis with a fresh prefix, and a subscriber that hears everything."""

    def __init__(self, cluster: DevCluster, wiretap: Wiretap, redis_url: str, namespace: str) -> None:
        self.cluster = cluster
        self.wiretap = wiretap
        self.redis_url = redis_url
        self.namespace = namespace
        self.prefix = namespace
        self.heard: list[tuple[str, Obj]] = []
        """Channel and event, as a plain subscriber got them."""
        self.progress: list[Obj] = []
        """What came on the channel of progress, which is no event."""
        self.is_redis_steady = True
        """False once a test has harmed Redis: then a subscriber may have missed something, and ids may come again."""

    async def __aenter__(self) -> "World":
        self.http = aiohttp.ClientSession(headers={OURS: "1"})
        # Once more: a Redis that was started again has closed the connections that are kept.
        again = Retry(NoBackoff(), 1)
        self.redis = redis.asyncio.Redis.from_url(self.redis_url, decode_responses=True, socket_timeout=2, retry=again)
        self._subscribed = asyncio.Event()
        self._listening = asyncio.create_task(self._listen(), name="subscriber")
        await self.create_namespace(self.namespace)
        await asyncio.wait_for(self._subscribed.wait(), 10)
        return self

    async def __aexit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                await self.check()
        finally:
            while not self._listening.done():  # redis-py may take a cancellation for the end of its wait
                self._listening.cancel()
                await asyncio.wait([self._listening], timeout=1)
            await self.redis.aclose()
            await self.http.close()

    # The cluster

    def jobs(self, namespace: str = "") -> str:
        return f"{self.cluster.url}/apis/batch/v1/namespaces/{namespace or self.namespace}/jobs"

    def pods(self) -> str:
        return f"{self.cluster.url}/api/v1/namespaces/{self.namespace}/pods"

    async def call(self, method: str, url: str, **options: Any) -> Obj:
        async with self.http.request(method, url, **options) as response:
            answer: Obj = await response.json(content_type=None)
            assert response.status < 300, answer
            return answer

    async def create_namespace(self, name: str) -> None:
        await self.call("POST", f"{self.cluster.url}/api/v1/namespaces", json={"metadata": {"name": name}})

    async def create(self, job: Obj, namespace: str = "") -> Obj:
        return await self.call("POST", self.jobs(namespace), json=job)

    async def run(self, name: str, script: str = "true", **more: Any) -> Obj:
        return await self.create(make_job(name, script, **more))

    async def patch(self, name: str, change: Obj, subresource: str = "") -> Obj:
        url = f"{self.jobs()}/{name}" + (f"/{subresource}" if subresource else "")
        return await self.call("PATCH", url, json=change, headers={"Content-Type": MERGE})

    async def delete(self, name: str, policy: str = "Background") -> Obj:
        return await self.call("DELETE", f"{self.jobs()}/{name}", params={"propagationPolicy": policy})

    async def job(self, name: str) -> Obj | None:
        async with self.http.get(f"{self.jobs()}/{name}") as response:
            return await response.json() if response.status == 200 else None

    async def has_ended(self, name: str) -> bool:
        """By the API server's word."""
        conditions = ((await self.job(name)) or {}).get("status", {}).get("conditions") or []
        return any(c["type"] in ("Complete", "Failed") and c["status"] == "True" for c in conditions)

    async def is_active(self, name: str) -> bool:
        return bool(((await self.job(name)) or {}).get("status", {}).get("ready"))

    async def pod_of(self, name: str) -> Obj:
        async def found() -> Obj | None:
            listed = await self.call("GET", self.pods(), params={"labelSelector": f"job-name={name}"})
            return listed["items"][0] if listed["items"] else None

        pod: Obj = await eventually(found)
        return pod

    def fault(self, kind: Any, **fields: Any) -> Fault:
        return self.cluster.faults.add(Fault(kind=kind, **fields))

    def strike(self, kind: Any, **fields: Any) -> int:
        return self.cluster.faults.strike(Fault(kind=kind, **fields))

    def _watches(self) -> set[Struck]:
        """Those that are open."""
        return {stream for stream in self.cluster.faults.streams if stream.verb == "watch"}

    # Redis

    async def published(self, name: str = "") -> list[Obj]:
        """The stream's events, of one Job or of all."""
        entries = await self.redis.xrange(f"{{{self.prefix}}}:events")
        events = [json.loads(fields["event"]) for _, fields in entries]
        return [event for event in events if name in ("", event["job"]["name"])]

    async def statuses(self, name: str) -> list[str]:
        return [event["status"] for event in await self.published(name)]

    async def until(self, name: str, status: str, timeout: float = 60) -> Obj:
        """The last event of the Job with this status, once there is one. Fails at once on another end."""

        async def found() -> Obj | None:
            try:
                events = await self.published(name)
            except AWAY:
                return None
            statuses = [event["status"] for event in events]
            if status not in statuses:
                assert not set(statuses) & set(ENDS), f"{name} was to be published {status}: {events}"
                return None
            return next(event for event in reversed(events) if event["status"] == status)

        event: Obj = await eventually(found, timeout)
        return event

    async def check(self) -> None:
        """What holds of every stream: ids are unique, running comes first, nothing follows an end, and all was heard."""
        if not self.is_redis_steady:
            return
        events = await self.published()
        ids = [event["id"] for event in events]
        assert len(ids) == len(set(ids)), f"published twice: {[(e['job']['name'], e['status']) for e in events]}"
        for uid in {event["job"]["uid"] for event in events}:
            statuses = [event["status"] for event in events if event["job"]["uid"] == uid]
            assert not set(statuses[:-1]) & set(ENDS), f"something follows an end: {statuses}"
        await eventually(lambda: len(self.heard) >= len(events), 5)
        assert [event for _, event in self.heard] == events, "the channels and the stream say different things"
        assert all(channel == f"{self.prefix}:{event['status']}" for channel, event in self.heard)
        kinds = {event.get("kind", event["status"]): event for event in (*events, *self.progress)}
        assert [
            line for one in kinds.values() for line in complaints(one)
        ] == []  # of each kind one: there may be thousands

    async def _listen(self) -> None:
        while True:
            with contextlib.suppress(*AWAY):
                async with self.redis.pubsub() as pubsub:
                    await pubsub.psubscribe(f"{self.prefix}:*")
                    while True:
                        message = await pubsub.get_message(timeout=1)
                        if message is None:
                            continue
                        self._subscribed.set()
                        if message["type"] == "pmessage":
                            event = json.loads(message["data"])
                            if message["channel"] == f"{self.prefix}:progress":
                                self.progress.append(event)
                            else:
                                self.heard.append((message["channel"], event))
            await asyncio.sleep(0.05)

    # Controllers

    @contextlib.asynccontextmanager
    async def controller(self, *, ready: bool = True, **settings: Any) -> AsyncIterator[Replica]:
        """A replica in this process; `ready` waits until it says so itself, and its watches are open: what is done to them then
        is done to all."""
        given = {
            "redis_url": self.redis_url,
            "namespaces": (self.namespace,),
            "key_prefix": self.prefix,
            "http_host": "127.0.0.1",
            "http_port": 0,
            **settings,
        }
        before = self._watches()
        controller = Controller(ControllerSettings(**given), await Access.find())
        task = asyncio.create_task(controller.run(), name="controller")
        replica = Replica(controller, task, self.http)
        try:
            await eventually(lambda: controller.http_port is not None or task.done(), 5)
            if ready:
                await eventually(replica.is_ready)
                await eventually(lambda: len(self._watches() - before) >= 2 * len(given["namespaces"]))
            yield replica
        finally:
            await replica.stop()
