"""What a request needs to be answered as ours: the headers, and the certificates of its connection."""

import asyncio
import base64
import math
import os
import ssl
import tempfile
import time
from collections.abc import Iterable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from multidict import CIMultiDict

from jobcast.kube import plugin
from jobcast.kube.kubeconfig import Kubeconfig, NoCluster, User, decoded

AHEAD_SECONDS = 30.0
"""How long before they expire credentials are read again, or a tenth of their life if that is less."""
_HEADER = "!#$&'*+-.^_`|~"
"""What a header's name may contain beside letters and digits, but for the percent sign that escapes all else."""


class Credentials(NamedTuple):
    headers: CIMultiDict[str]
    tls: ssl.SSLContext | bool
    """False for a server without TLS."""
    authority: bytes
    """The certificates to trust; empty for those of the system."""
    renew_at: float
    expires: float
    """Both as time.time(), infinite if unknown."""
    seen: dict[str, tuple[int, ...]]
    """What each file that they come from looked like."""

    @property
    def is_changed(self) -> bool:
        """Some file is not as it was."""
        return _seen(self.seen) != self.seen


async def read(config: Kubeconfig) -> Credentials:
    """All of it anew. Raises NoCluster."""
    user, cluster, where = config.user, config.cluster, config.where
    authority = partial(_content, where, "certificate-authority", cluster.certificate_authority_data)
    given = plugin.Status()
    if user.exec is not None and not user.is_named:
        given = await plugin.run(where, user.exec, cluster, authority(cluster.certificate_authority))
    files = (cluster.certificate_authority, user.client_certificate, user.client_key, user.token_file)
    seen = _seen([*config.files, *filter(None, files)])
    trusted = authority(cluster.certificate_authority)
    renew_at, expires = _times(where, given)
    return Credentials(
        headers=_headers(where, user, given.token),
        tls=await asyncio.to_thread(_tls, config, trusted, given) if cluster.server.startswith("https:") else False,
        authority=trusted,
        renew_at=renew_at,
        expires=expires,
        seen=seen,
    )


def _seen(files: Iterable[str]) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for file in files:
        try:
            stat = os.stat(file)
            found[file] = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        except OSError:
            found[file] = ()
    return found


def _content(where: str, field: str, data: str, file: str) -> bytes:
    if data:
        return decoded(where, f"{field}-data", data)
    try:
        return Path(file).read_bytes() if file else b""
    except OSError as error:
        raise NoCluster(f"{where}: {field}: {file}: {error.strerror}") from None


def _times(where: str, given: plugin.Status) -> tuple[float, float]:
    """When to renew, and when it expires."""
    if given.expiration_timestamp is None:
        return math.inf, math.inf
    expires = given.expiration_timestamp.timestamp()
    life = expires - time.time()
    if life <= 0:
        raise NoCluster(f"{where}: exec: the plugin returned credentials that have expired")
    return expires - min(AHEAD_SECONDS, life / 10), expires


def _headers(where: str, user: User, token: str) -> CIMultiDict[str]:
    headers: CIMultiDict[str] = CIMultiDict()
    token = token or _token(where, user)
    if token:
        headers["Authorization"] = f"Bearer {token}"
    elif user.username:
        headers["Authorization"] = f"Basic {base64.b64encode(f'{user.username}:{user.password}'.encode()).decode()}"
    for name, value in (("Impersonate-User", user.as_), ("Impersonate-Uid", user.as_uid)):
        if value:
            headers[name] = value
    for group in user.as_groups:
        headers.add("Impersonate-Group", group)
    for key, values in user.as_user_extra.items():
        for value in values:
            headers.add(f"Impersonate-Extra-{quote(key, safe=_HEADER)}", value)
    return headers


def _token(where: str, user: User) -> str:
    """The file's, even if there is another, as long as it can be read: kubectl does so."""
    if not user.token_file:
        return user.token
    try:
        token = Path(user.token_file).read_text().strip()
        problem = "" if token.isprintable() else "it contains control characters"
    except (OSError, ValueError) as error:
        token, problem = "", str(getattr(error, "strerror", None) or "it is no text")
    if problem or not token:
        if user.token:
            return user.token
        raise NoCluster(f"{where}: tokenFile: {user.token_file}: {problem or 'it is empty'}")
    return token


def _tls(config: Kubeconfig, authority: bytes, given: plugin.Status) -> ssl.SSLContext:
    """Takes 18 ms."""
    user, cluster, where = config.user, config.cluster, config.where
    try:
        context = ssl.create_default_context(cadata=authority.decode("ascii", "replace") if authority else None)
        # Python 3.13 refuses authorities without key usage, which kubectl and many clusters do not mind.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        with ExitStack() as stack:
            certificate = user.client_certificate or _file(
                stack, where, user.client_certificate_data, given.client_certificate_data
            )
            key = user.client_key or _file(stack, where, user.client_key_data, given.client_key_data)
            if certificate:
                context.load_cert_chain(certificate, key, password=_no_password)
    except (OSError, ValueError) as error:
        said = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else error
        raise NoCluster(f"{where}: the certificates for {cluster.server} cannot be used: {said}") from error
    if cluster.insecure_skip_tls_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _file(stack: ExitStack, where: str, data: str, pem: str) -> str:
    """A file with this content, for OpenSSL, which reads nothing else; removed at once."""
    content = decoded(where, "client-certificate-data or client-key-data", data) if data else pem.encode()
    if not content:
        return ""
    file = tempfile.NamedTemporaryFile()  # noqa: SIM115 - the stack closes it
    stack.push(file)
    file.write(content)
    file.flush()
    return file.name


def _no_password() -> str:
    """OpenSSL would ask for it at the terminal."""
    raise ValueError("the client key is encrypted")
