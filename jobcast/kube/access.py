"""Where the cluster is and our credentials, found as kubectl does, and read again when they change, expire or are refused."""

import asyncio
import hashlib
import ssl
import time

from multidict import CIMultiDict

from jobcast import backoff
from jobcast.kube import kubeconfig, proxies
from jobcast.kube.credentials import Credentials, read
from jobcast.kube.kubeconfig import Kubeconfig, NoCluster

LOOK_SECONDS = 10.0
"""Between two looks at the files that credentials come from. client-go reads a token every minute, a certificate every five."""
RENEWAL_PAUSE_SECONDS = (1.0, 30.0)
"""First and longest pause before credentials that were refused, or could not be had, are read once more: an exec plugin may
cost an identity provider a login each time."""


class Access:
    """A cluster's address and the credentials for it."""

    def __init__(self, config: Kubeconfig, credentials: Credentials) -> None:
        self.config = config
        self.host = config.cluster.server.rstrip("/")
        self.proxy = config.cluster.proxy_url or proxies.proxy_for(self.host)
        self.refused_since: float | None = None
        """Since when no request was accepted as ours, on the monotonic clock; None while they are."""
        self.error: str | None = None
        """Why the credentials could not be read again; None if they were."""
        self._credentials = credentials
        self._renewal: asyncio.Task[None] | None = None
        self._failures = 0
        self._not_before = self._looked = time.monotonic()

    @classmethod
    async def find(cls) -> "Access":
        """Raises NoCluster."""
        # Small local files: not worth a thread.
        config = kubeconfig.load()
        return cls(config, await read(config))

    @property
    def namespace(self) -> str:
        """The context's, else the Pod's own, else `default`."""
        return self.config.namespace

    @property
    def cluster(self) -> str:
        """Identifies the cluster, whatever address it is reached by. It is a hash of its certificates: that needs no permission."""
        return hashlib.sha256(self._credentials.authority.strip() or self.host.encode()).hexdigest()[:12]

    @property
    def refusal(self) -> str:
        """What to say while `refused_since` is set."""
        why = f", and they cannot be read again: {self.error}" if self.error else ""
        return f"the API server refuses our credentials (401 Unauthorized){why}"

    async def headers(self) -> CIMultiDict[str]:
        """A copy of the headers that authenticate a request. Raises NoCluster."""
        return (await self.credentials()).headers.copy()

    def ssl(self) -> ssl.SSLContext | bool:
        """The certificates to trust and to present, as they are now."""
        return self._credentials.tls

    async def credentials(self) -> Credentials:
        """For the next request. They are read again ahead of their end, and after their files have changed. Raises NoCluster
        if they have expired and there are no others."""
        if self._is_stale():
            await self._renew(is_refused=False)
        if time.time() >= self._credentials.expires:
            self._note_refusal()
            raise NoCluster(self.error or f"{self.config.where}: the credentials have expired")
        return self._credentials

    def accepted(self) -> None:
        """The server answered a request as ours."""
        self.refused_since = None

    async def refused(self, used: Credentials) -> None:
        """The server answered 401: read them again, unless that was done since, or too often of late."""
        self._note_refusal()
        if used is self._credentials:
            await self._renew(is_refused=True)

    def _note_refusal(self) -> None:
        if self.refused_since is None:
            self.refused_since = time.monotonic()

    def _is_stale(self) -> bool:
        if time.time() >= self._credentials.renew_at:
            return True
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return False
        self._looked = time.monotonic()
        return self._credentials.is_changed

    async def _renew(self, *, is_refused: bool) -> None:
        """Once for all that ask at the same time, even if who asked first is cancelled."""
        if self._renewal is None:
            if time.monotonic() < self._not_before:
                return
            self._renewal = asyncio.create_task(self._read_again(is_refused), name="credentials")
        await asyncio.shield(self._renewal)

    async def _read_again(self, is_refused: bool) -> None:
        try:
            config = kubeconfig.load(self.config.context)
            if config.cluster.server != self.config.cluster.server:
                raise NoCluster(f"{config.where}: the server of context {config.context} has changed; restart")
            self._credentials = await read(config)
            self.error = None
        except NoCluster as error:
            self.error = str(error)
        finally:
            self._renewal = None
        now = time.monotonic()
        if is_refused or self.error is not None:
            # Whether new ones are any better shows only later: what counts is how often this happens.
            self._failures = 1 if now - self._not_before > 2 * RENEWAL_PAUSE_SECONDS[1] else self._failures + 1
            self._not_before = now + backoff.pause(self._failures, RENEWAL_PAUSE_SECONDS)
