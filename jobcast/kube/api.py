"""The requests: list, watch, get, log, and two writes, a finalizer and a new Job; each over raw bytes.

Whatever goes wrong on the network, every method raises KubeError. None of them retries.
"""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

import aiohttp
import msgspec

from jobcast.jobs.decode import Reading
from jobcast.jobs.model import FINALIZER, Job, Pod
from jobcast.kube.access import Access
from jobcast.kube.credentials import Credentials
from jobcast.kube.decode import JOBS, PODS, Change, Lines, Page, Resource, Skip, T
from jobcast.kube.errors import Invalid, KubeError, NotFound, Unauthorized, Unreachable, from_response
from jobcast.kube.kubeconfig import NoCluster
from jobcast.wire import UNREADABLE

WATCH_SILENCE_SECONDS = 90.0
"""The API server sends a bookmark about every minute: after 90 s without a byte the connection is dead."""
WATCH_SECONDS = 570
"""How long we ask a watch to last. Servers end one after 30 to 60 minutes themselves. A shorter one moves replicas on to new
API servers after a rolling update. client-go asks for 5 to 10 minutes."""
ANSWER_SECONDS = 30.0
"""The longest silence within an answer that is not a watch."""
CONNECT_SECONDS = 5.0
PAGE_SIZE = 500
"""client-go's page size: 3.3 MB of JSON, 0.2 MB on the wire."""
LOG_CHUNK_BYTES = 64 * 1024
ERROR_BYTES = 64 * 1024
"""How much is read of an error, which may be any page that a proxy sends."""
FIRST_LINE_BYTES = 64
"""Enough of a log for the time that the kubelet writes before its first line: 30 to 35 bytes and a space."""

_NOTHING: Mapping[str, str] = {}
_NETWORK_ERRORS = (aiohttp.ClientError, TimeoutError, OSError, ValueError)


def _ignore(_reason: str) -> None:
    pass


class Api:
    """One session with one API server. Use as an async context manager."""

    def __init__(
        self,
        access: Access,
        reading: Reading | None = None,
        *,
        skip: Skip = _ignore,
        watch_silence: float = WATCH_SILENCE_SECONDS,
    ) -> None:
        self.access = access
        self.reading = reading or Reading()
        self._skip = skip
        self._watch_silence = watch_silence
        self._skew = 0.0

    async def __aenter__(self) -> "Api":
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=75)
        # 256 KiB: a page of a list or a burst of a watch in few reads. No cookies: nothing here sets one.
        self._session = aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), read_bufsize=256 * 1024
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    @property
    def skew(self) -> float:
        """Seconds that the cluster's clock is ahead of ours, by the Date header of its last answer. For people: nothing may
        depend on it."""
        return self._skew

    def now(self) -> str:
        """The cluster's time, RFC 3339 to the second, by the Date header of its last answer. For people: nothing may depend on
        it."""
        return datetime.fromtimestamp(time.time() + self._skew, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    async def pages(
        self,
        resource: Resource[T],
        namespace: str | None,
        selector: str,
        *,
        limit: int = PAGE_SIZE,
        name: str | None = None,
    ) -> AsyncGenerator[Page[T], None]:
        """The list, page by page, so that only one is in memory; with a `name` only that object. Raises Expired when it took too
        long."""
        params = {"labelSelector": selector, "limit": str(limit)}
        params |= {"fieldSelector": f"metadata.name={name}"} if name is not None else {}
        while True:
            body = await self._read(_path(resource, namespace), params)
            try:
                page = resource.page(body, self.reading, self._skip)
            except UNREADABLE as error:
                raise Unreachable(f"the answer is not a list of {resource.name}: {error}") from error
            yield page
            if not page.next:
                return
            params["continue"] = page.next

    async def first(self, resource: Resource[T], namespace: str | None, selector: str = "") -> T | None:
        """The first one that the API server lists; None where there is none."""
        async with aclosing(self.pages(resource, namespace, selector, limit=1)) as pages:
            return next(iter((await anext(pages)).items), None)

    async def watch(
        self,
        resource: Resource[T],
        namespace: str | None,
        selector: str,
        version: str,
        *,
        opened: Callable[[], None] = lambda: None,
        received: Callable[[], None] = lambda: None,
    ) -> AsyncGenerator[list[Change[T]], None]:
        """What changed since `version`, as the bytes come in: each batch is one read. Ends when the server ends it.

        `received` is called for every read. Raises Expired (410, as an answer or as an event), Unreachable after
        `watch_silence` seconds without a byte, and any other KubeError that the server answers with.
        """
        params = {
            "watch": "true",
            "labelSelector": selector,
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        lines = Lines()
        async with self._open(_path(resource, namespace), params, silence=self._watch_silence) as response:
            opened()
            with _as_unreachable():
                async for chunk in response.content.iter_any():
                    received()
                    found = (resource.change(line, self.reading, self._skip) for line in lines.feed(chunk) if line)
                    changes = [change for change in found if change is not None]
                    if changes:
                        yield changes
        if lines.is_cut:
            self._skip("cut_line")

    async def job(self, namespace: str, name: str) -> Job | None:
        """The Job of that name as it is in etcd now; None when there is none. It is read through `/status`, which returns all of
        the Job and can be granted alone."""
        try:
            body = await self._read(f"{_path(JOBS, namespace, name)}/status")
        except NotFound:
            return None
        return self._one(JOBS, body)

    async def pods_of(self, namespace: str, selector: str, *, name: str | None = None) -> list[Pod]:
        """All Pods that the selector matches, or the one of that name, straight from the API server."""
        return [pod async for page in self.pages(PODS, namespace, selector, name=name) for pod in page.items]

    async def create(self, namespace: str, job: dict[str, Any]) -> tuple[Job, list[str]]:
        """Create the Job; returns it as it is now, and the server's warnings. The server refuses unknown fields. Raises
        KubeError with code 409 where one of that name exists, Invalid, Forbidden, NotFound for the namespace.

        After Unreachable it may exist or not.
        """
        async with self._open(_path(JOBS, namespace), {"fieldValidation": "Strict"}, body=job) as response:
            with _as_unreachable():
                answer = await response.read()
            warnings = [_warning(value) for value in response.headers.getall("Warning", ())]
        return self._one(JOBS, answer), warnings

    async def hold(self, namespace: str, name: str, uid: str) -> None:
        """Add our finalizer to the Job. Does nothing where the Job is gone, replaced by another of that name, or being deleted."""
        with suppress(NotFound), _unless_wrong("metadata.uid", "metadata.finalizers"):
            await self._patch(namespace, name, {"uid": uid, "finalizers": [FINALIZER]})

    async def release(self, namespace: str, name: str, uid: str) -> None:
        """Remove our finalizer from the Job. Does nothing where the Job is gone, replaced by another, or without it."""
        with suppress(NotFound), _unless_wrong("metadata.uid"):
            await self._patch(namespace, name, {"uid": uid, "$deleteFromPrimitiveList/finalizers": [FINALIZER]})

    async def _patch(self, namespace: str, name: str, metadata: dict[str, Any]) -> None:
        # A strategic merge adds and removes single finalizers, so that no other writer's are lost. With the uid in it, the
        # server refuses a patch of another Job of that name as Invalid: a uid may not be changed.
        kind = "application/strategic-merge-patch+json"
        await self._read(_path(JOBS, namespace, name), body={"metadata": metadata}, method="PATCH", kind=kind)

    @asynccontextmanager
    async def log(
        self,
        namespace: str,
        pod: str,
        container: str,
        *,
        previous: bool = False,
        follow: bool = False,
        silence: float = ANSWER_SECONDS,
        more: Mapping[str, str] = _NOTHING,
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The container's log as chunks of raw bytes, not decoded and not split into lines. `follow`: until it ends. `more`
        are further parameters of the request. The end of the chunks does not prove that the log ends there: the API server also
        ends its answer so if it loses the kubelet.

        Raises NotFound (the Pod is gone) and KubeError with code 400 (the container has not started).
        """
        params = {"container": container, **more}
        params |= {"previous": "true"} if previous else {}
        params |= {"follow": "true"} if follow else {}
        path = f"{_path(PODS, namespace, pod)}/log"
        async with self._open(path, params, silence=silence, encoding="identity") as response:
            yield self._chunks(response)

    async def first_line(self, namespace: str, pod: str, container: str, *, of_last: int | None = None) -> str:
        """The time of the log's first line, or of the first one of so many last lines, RFC 3339 with nanoseconds; empty while there is
        none. Raises KubeError."""
        head = b""
        more = {"timestamps": "true", "limitBytes": str(FIRST_LINE_BYTES)}
        more |= {} if of_last is None else {"tailLines": str(of_last)}
        async with self.log(namespace, pod, container, more=more) as chunks:
            async for chunk in chunks:
                head += chunk
        time, separator, _ = head.partition(b" ")
        # Anything else is an error message of the kubelet in place of the log.
        return time.decode() if separator and time[:1].isdigit() else ""

    async def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """For requests that change nothing, such as access reviews."""
        return _object(await self._read(path, body=body))

    async def version(self) -> str:
        """The server's version, `v1.34.2`; the cheapest sign that it is there."""
        return str(_object(await self._read("/version")).get("gitVersion", "unknown"))

    async def _read(
        self,
        path: str,
        params: dict[str, str] | None = None,
        *,
        body: dict[str, Any] | None = None,
        method: str = "POST",
        kind: str = "application/json",
    ) -> bytes:
        async with self._open(path, params or {}, body=body, method=method, kind=kind) as response:
            with _as_unreachable():
                return await response.read()

    def _one(self, resource: Resource[T], body: bytes) -> T:
        try:
            return resource.one(body, self.reading)
        except (*UNREADABLE, ValueError) as error:
            raise Unreachable(f"the answer is not one of {resource.name}: {error}") from error

    async def _chunks(self, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        with _as_unreachable():
            async for chunk in response.content.iter_chunked(LOG_CHUNK_BYTES):
                yield chunk

    @asynccontextmanager
    async def _open(
        self,
        path: str,
        params: dict[str, str],
        *,
        silence: float = ANSWER_SECONDS,
        encoding: str = "gzip",
        body: dict[str, Any] | None = None,
        method: str = "POST",
        kind: str = "application/json",
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send the request and yield the response, which is a success. After a 401 the credentials are read again before
        Unauthorized is raised."""
        cluster = self.access.config.cluster
        try:
            credentials = await self.access.credentials()
        except NoCluster as error:
            raise Unauthorized(f"no credentials: {error}", code=401) from error
        headers = credentials.headers.copy()
        headers["Accept"] = "application/json"
        headers["Accept-Encoding"] = "identity" if cluster.disable_compression else encoding
        if body is not None:
            headers["Content-Type"] = kind
        with _as_unreachable():
            response = await self._session.request(
                "GET" if body is None else method,
                self.access.host + path,
                params=params,
                data=None if body is None else msgspec.json.encode(body),
                headers=headers,
                # Of each request, so that the next one opens a connection with renewed certificates.
                ssl=credentials.tls,
                server_hostname=cluster.tls_server_name or None,
                proxy=self.access.proxy,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=silence),
                # A redirect would carry the token to an address that an untrusted answer names.
                allow_redirects=False,
            )
        try:
            self._set_skew(response)
            if response.status < 500 and response.status != 401:
                self.access.accepted()
            if not 200 <= response.status < 300:
                with _as_unreachable():
                    text = await _beginning(response.content)
                if response.status == 401:
                    await self._renew(credentials)
                raise from_response(response.status, text, response.headers.get("Retry-After"))
            yield response
        finally:
            # Not read to its end: a watch or a log that is abandoned may be endless.
            response.close() if not response.content.at_eof() else response.release()

    async def _renew(self, refused: Credentials) -> None:
        await self.access.refused(refused)
        if self.access.error is not None:
            raise Unauthorized(f"no credentials: {self.access.error}", code=401)

    def _set_skew(self, response: aiohttp.ClientResponse) -> None:
        with suppress(KeyError, ValueError):
            self._skew = parsedate_to_datetime(response.headers["Date"]).timestamp() - time.time()


def _object(body: bytes) -> dict[str, Any]:
    """Raises Unreachable for anything but a JSON object: another server is at this address."""
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except UNREADABLE as error:
        raise Unreachable(f"the answer is not that of an API server: {error}") from error


def _path(resource: Resource[Any], namespace: str | None, name: str | None = None) -> str:
    """Of the collection, or of one object. Names may come from Redis and are untrusted: each stays one segment of the path.
    Raises NotFound for one that cannot."""
    collection = resource.path(None if namespace is None else _segment(namespace))
    return collection if name is None else f"{collection}/{_segment(name)}"


def _segment(name: str) -> str:
    if name in ("", ".", "..") or "/" in name or "%" in name:
        raise NotFound(f"no object can have the name {name!r}", code=404)
    return quote(name, safe="")


def _warning(header: str) -> str:
    """The text of `299 - "text"` (RFC 9111, section 5.5)."""
    _, quoted, text = header.partition('"')
    return text.rpartition('"')[0].replace('\\"', '"') if quoted else header


async def _beginning(content: aiohttp.StreamReader) -> bytes:
    """At most ERROR_BYTES of it. A single read would return only what has arrived so far."""
    found = b""
    while len(found) < ERROR_BYTES and (part := await content.read(ERROR_BYTES - len(found))):
        found += part
    return found


@contextmanager
def _unless_wrong(*fields: str) -> Iterator[None]:
    """Ignores Invalid if it is about one of these fields."""
    try:
        yield
    except Invalid as error:
        if error.fields.isdisjoint(fields):
            raise


class _as_unreachable:  # noqa: N801 - reads as a phrase at its place of use
    """Turns every error of the network into Unreachable; the error is its cause."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, _NETWORK_ERRORS) and not isinstance(error, KubeError):
            what = str(error) or type(error).__name__
            raise Unreachable(f"no answer from the API server: {what}") from error
