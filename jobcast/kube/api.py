"""The requests: list, watch, get, log, access review, and two writes, a finalizer and a new Job; each over raw bytes.

Every method raises KubeError and nothing else of the network's. None of them retries.
"""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

import aiohttp
import msgspec

from jobcast.jobs.decode import Reading
from jobcast.jobs.model import FINALIZER, Job, Pod
from jobcast.kube.access import Access, NoCluster
from jobcast.kube.decode import JOBS, PODS, Change, Lines, Page, Resource, Skip, T
from jobcast.kube.errors import Invalid, KubeError, NotFound, Unauthorized, Unreachable, from_response
from jobcast.kube.permissions import Permission
from jobcast.wire import UNREADABLE

WATCH_SILENCE_SECONDS = 90.0
"""The API server sends a bookmark about every minute: 90 s without a byte mean that the link is dead."""
WATCH_SECONDS = 570
"""How long we ask a watch to last. Servers end one after 30 to 60 minutes themselves; a shorter one moves replicas on to
new API servers after a rolling update. client-go asks for 5 to 10 minutes."""
ANSWER_SECONDS = 30.0
"""The longest silence within an answer that is not a watch."""
CONNECT_SECONDS = 5.0
PAGE_SIZE = 500
"""client-go's page size: 3.3 MB of JSON, 0.2 MB on the wire."""
LOG_CHUNK_BYTES = 64 * 1024
REFUSAL_BYTES = 64 * 1024
"""Of a refusal, and of whatever page a proxy has put in its place."""
FIRST_LINE_BYTES = 64
"""Enough of a log for the time that the kubelet writes before its first line: 30 to 35 bytes and a space."""

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
        connector = aiohttp.TCPConnector(ssl=self.access.ssl(), limit=0, keepalive_timeout=75)
        # 256 KiB: a page of a list or a burst of a watch in few reads. No cookies: nothing here sets one.
        self._session = aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), read_bufsize=256 * 1024
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    @property
    def skew(self) -> float:
        """Seconds that the cluster's clock is ahead of ours, by the Date header of its last answer. For one, not deciding."""
        return self._skew

    def now(self) -> str:
        """The cluster's time, RFC 3339 to the second, by the Date header of its last answer. For one, not deciding."""
        return datetime.fromtimestamp(time.time() + self._skew, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    async def pages(
        self, resource: Resource[T], namespace: str | None, selector: str, *, limit: int = PAGE_SIZE
    ) -> AsyncGenerator[Page[T], None]:
        """The list, page by page, each decoded before the next is kept. Raises Expired when it took too long."""
        params = {"labelSelector": selector, "limit": str(limit)}
        while True:
            body = await self._read(_path(resource, namespace), params)
            try:
                page = resource.page(body, self.reading, self._skip)
            except UNREADABLE as error:
                raise Unreachable(f"the list of {resource.name} is not a list: {error}") from error
            yield page
            if not page.next:
                return
            params["continue"] = page.next

    async def first(self, resource: Resource[T], namespace: str | None, selector: str = "") -> T | None:
        """One of them, whichever the API server names first; None where there is none."""
        async with aclosing(self.pages(resource, namespace, selector, limit=1)) as pages:
            return next(iter((await anext(pages)).items), None)

    async def listed(self, resource: Resource[Any], namespace: str | None, selector: str) -> bytes:
        """The first page of the list as the API server wrote it."""
        return await self._read(_path(resource, namespace), {"labelSelector": selector, "limit": str(PAGE_SIZE)})

    async def watch(
        self,
        resource: Resource[T],
        namespace: str | None,
        selector: str,
        version: str,
        *,
        opened: Callable[[], None] = lambda: None,
        heard: Callable[[], None] = lambda: None,
    ) -> AsyncGenerator[list[Change[T]], None]:
        """What changed since `version`, as the bytes come in: each batch is one read. Ends when the server ends it.

        `heard` is called for every read. Raises Expired (410, as an answer or as an event), Unreachable after
        `watch_silence` seconds without a byte, and whatever else the server says.
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
                    heard()
                    found = (resource.change(line, self.reading, self._skip) for line in lines.feed(chunk) if line)
                    changes = [change for change in found if change is not None]
                    if changes:
                        yield changes
        if lines.is_cut:
            self._skip("cut_line")

    async def job(self, namespace: str, name: str) -> Job | None:
        """The Job of that name as etcd has it now; None when there is none."""
        try:
            body = await self._read(_path(JOBS, namespace, name), {})
        except NotFound:
            return None
        return self._one(JOBS, body)

    async def pods_of(self, namespace: str, selector: str) -> list[Pod]:
        """All Pods of the selector, straight from the API server."""
        return [pod async for page in self.pages(PODS, namespace, selector) for pod in page.items]

    async def create(self, namespace: str, job: dict[str, Any]) -> tuple[Job, list[str]]:
        """Make the Job, which names itself; it as it is now, and what the server warns of. Asks for unknown fields to be
        refused. Raises KubeError with code 409 where one of that name exists, Invalid, Forbidden, NotFound for the namespace.

        Unreachable leaves open whether it was made.
        """
        body = msgspec.json.encode(job)
        async with self._open(_path(JOBS, namespace), {"fieldValidation": "Strict"}, body=body) as response:
            with _as_unreachable():
                answer = await response.read()
            warnings = [_warning(value) for value in response.headers.getall("Warning", ())]
        return self._one(JOBS, answer), warnings

    async def hold(self, namespace: str, name: str, uid: str) -> None:
        """Put our finalizer on the Job. Does nothing where the Job is gone, another one by now, or being deleted."""
        with suppress(NotFound), _unless_wrong("metadata.uid", "metadata.finalizers"):
            await self._patch(namespace, name, {"uid": uid, "finalizers": [FINALIZER]})

    async def release(self, namespace: str, name: str, uid: str) -> None:
        """Take our finalizer off the Job. Does nothing where the Job is gone, another one by now, or without it."""
        with suppress(NotFound), _unless_wrong("metadata.uid"):
            await self._patch(namespace, name, {"uid": uid, "$deleteFromPrimitiveList/finalizers": [FINALIZER]})

    async def _patch(self, namespace: str, name: str, metadata: dict[str, Any]) -> None:
        # A strategic merge adds and removes single finalizers: nobody else's are lost, whoever writes at the same time. The
        # uid has a namesake's patch refused: as Invalid, for it may not be changed.
        body = msgspec.json.encode({"metadata": metadata})
        path, kind = _path(JOBS, namespace, name), "application/strategic-merge-patch+json"
        async with self._open(path, {}, body=body, method="PATCH", kind=kind) as response:
            with _as_unreachable():
                await response.read()

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
        **more: str,
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The container's log as chunks of raw bytes: no decoding, no line is waited for. `follow`: to its end. `more` are
        further parameters of the request.

        Raises NotFound (the Pod is gone) and KubeError with code 400 (the container has not started).
        """
        params = {"container": container, **more}
        params |= {"previous": "true"} if previous else {}
        params |= {"follow": "true"} if follow else {}
        path = f"{_path(PODS, namespace, pod)}/log"
        async with self._open(path, params, silence=silence, encoding="identity") as response:
            yield self._chunks(response)

    async def first_line(self, namespace: str, pod: str, container: str, *, previous: bool = False) -> str:
        """The time of the log's first line, RFC 3339 with nanoseconds; empty while there is none. Raises KubeError."""
        head = b""
        async with self.log(
            namespace, pod, container, previous=previous, timestamps="true", limitBytes=str(FIRST_LINE_BYTES)
        ) as chunks:
            async for chunk in chunks:
                head += chunk
        time, separator, _ = head.partition(b" ")
        # What is no time is a complaint of the kubelet's in place of a log.
        return time.decode() if separator and time[:1].isdigit() else ""

    async def may(
        self, verb: str, resource: Resource[Any], namespace: str | None, subresource: str = "", *, user: str = ""
    ) -> bool:
        """Whether our own account may do this, by a SelfSubjectAccessReview; or that of `user`, which not everybody may ask."""
        group = resource.group.split("/")[1] if resource.group.startswith("apis/") else ""
        attributes = {"verb": verb, "group": group, "resource": resource.name, "subresource": subresource}
        kind = "SubjectAccessReview" if user else "SelfSubjectAccessReview"
        asked: dict[str, Any] = {"resourceAttributes": attributes | ({"namespace": namespace} if namespace else {})}
        if user:
            # Of a ServiceAccount also what all of its kind may.
            asked |= {"user": user, "groups": ["system:authenticated", "system:serviceaccounts"]}
        review = {"kind": kind, "apiVersion": "authorization.k8s.io/v1", "spec": asked}
        path = f"/apis/authorization.k8s.io/v1/{kind.lower()}s"
        async with self._open(path, {}, body=msgspec.json.encode(review)) as response:
            with _as_unreachable():
                answer = await response.read()
        return bool((_object(answer).get("status") or {}).get("allowed"))

    async def missing(
        self, permissions: Iterable[Permission], namespace: str | None, *, user: str = ""
    ) -> list[Permission]:
        """Those of them that `may` denies, in their order."""
        return [
            one
            for one in permissions
            if not await self.may(one.verb, one.resource, namespace, one.subresource, user=user)
        ]

    async def whoami(self) -> str:
        """Our user name, `system:serviceaccount:<namespace>:<name>` of a Pod. Servers before 1.28 raise NotFound."""
        review = {"kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1"}
        path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
        async with self._open(path, {}, body=msgspec.json.encode(review)) as response:
            with _as_unreachable():
                answer = _object(await response.read())
        status = answer.get("status")
        user = status.get("userInfo") if isinstance(status, dict) else None
        return str(user.get("username", "")) if isinstance(user, dict) else ""

    async def version(self) -> str:
        """The server's version, `v1.34.2`; the cheapest sign that it is there."""
        answer = _object(await self._read("/version", {}))
        return str(answer.get("gitVersion", "unknown"))

    async def _read(self, path: str, params: dict[str, str]) -> bytes:
        async with self._open(path, params) as response:
            with _as_unreachable():
                return await response.read()

    def _one(self, resource: Resource[T], body: bytes) -> T:
        try:
            return resource.one(body, self.reading)
        except (*UNREADABLE, ValueError) as error:
            raise Unreachable(f"the answer is no {resource.name[:-1]}: {error}") from error

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
        body: bytes | None = None,
        method: str = "POST",
        kind: str = "application/json",
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send the request; the response is a success. A 401 has the credentials read again before it is raised."""
        headers = await self._headers() | {"Accept": "application/json", "Accept-Encoding": encoding}
        if body is not None:
            headers["Content-Type"] = kind
        with _as_unreachable():
            response = await self._session.request(
                "GET" if body is None else method,
                self.access.host + path,
                params=params,
                data=body,
                headers=headers,
                proxy=self.access.proxy,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=silence),
                # A redirect would carry the token to wherever an untrusted answer points.
                allow_redirects=False,
            )
        try:
            self._set_skew(response)
            if not 200 <= response.status < 300:
                with _as_unreachable():
                    text = await _beginning(response.content)
                error = from_response(response.status, text, response.headers.get("Retry-After"))
                if isinstance(error, Unauthorized):
                    await self._refresh()
                raise error
            yield response
        finally:
            # Not awaited to its end: a watch that is left, or a log that is given up, must not be drained.
            response.close() if not response.content.at_eof() else response.release()

    async def _headers(self) -> dict[str, str]:
        try:
            return await self.access.headers()
        except Exception as error:  # a hook of the library: an unreadable token file, an OIDC provider that is down
            raise Unauthorized(f"no credentials: {error}") from error

    async def _refresh(self) -> None:
        try:
            await self.access.refresh()
        except NoCluster as error:
            raise Unauthorized(f"no credentials: {error}") from error

    def _set_skew(self, response: aiohttp.ClientResponse) -> None:
        with suppress(KeyError, ValueError):
            self._skew = parsedate_to_datetime(response.headers["Date"]).timestamp() - time.time()


def _object(body: bytes) -> dict[str, Any]:
    """Raises Unreachable for what is no JSON object: some other server is at this address."""
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except UNREADABLE as error:
        raise Unreachable(f"the answer is not an API server's: {error}") from error


def _path(resource: Resource[Any], namespace: str | None, name: str | None = None) -> str:
    """Of the collection, or of the one of that name. Names may come from Redis, where anybody may have put them: each stays
    one segment. Raises NotFound for what cannot be one."""
    collection = resource.path(None if namespace is None else _segment(namespace))
    return collection if name is None else f"{collection}/{_segment(name)}"


def _segment(name: str) -> str:
    if name in ("", ".", "..") or "/" in name or "%" in name:  # the API server has nothing of such a name
        raise NotFound(f"{name!r} is not the name of anything", code=404)
    return quote(name, safe="")


def _warning(header: str) -> str:
    """The text of `299 - "text"` (RFC 9111, section 5.5)."""
    _, quoted, text = header.partition('"')
    return text.rpartition('"')[0].replace('\\"', '"') if quoted else header


async def _beginning(content: aiohttp.StreamReader) -> bytes:
    """All of it, if it is no longer than a refusal may be: one read returns what has come so far."""
    found = b""
    while len(found) < REFUSAL_BYTES and (part := await content.read(REFUSAL_BYTES - len(found))):
        found += part
    return found


@contextmanager
def _unless_wrong(*fields: str) -> Iterator[None]:
    """Passes over a refusal that is about one of these fields."""
    try:
        yield
    except Invalid as error:
        if error.fields.isdisjoint(fields):
            raise


class _as_unreachable:  # noqa: N801 - reads as a phrase at its place of use
    """Whatever the network does becomes Unreachable, and keeps its cause."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, _traceback: Any) -> None:
        if isinstance(error, _NETWORK_ERRORS) and not isinstance(error, KubeError):
            what = str(error) or type(error).__name__
            raise Unreachable(f"no answer from the API server: {what}") from error
