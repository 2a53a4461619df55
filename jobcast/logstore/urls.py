"""URLs of object stores: their syntax, how a store is opened, and what its errors mean.

| URL | store |
| --- | --- |
| `file:///folder` | a folder: a volume that controller, worker and subscribers share |
| `s3://bucket/prefix` | S3 and compatible stores |
| `gs://bucket/prefix` | Google Cloud Storage |
| `az://container/prefix`, `abfs[s]://container@account.dfs.core.windows.net/prefix` | Azure Blob Storage |

Credentials and endpoints come from the environment, never from the URL. Only this room imports obstore.
"""

import os
import re
from datetime import timedelta
from html import unescape
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from jobcast.logstore.base import REFUSED, UNAVAILABLE, LogStoreError

if TYPE_CHECKING:
    from obstore.store import ObjectStore

SCHEMES = ("file", "s3", "gs", "az", "abfs", "abfss")
CONNECT_SECONDS = 2.0
"""A reachable store answers a SYN within milliseconds, or after the kernel's first resend, one second later."""
REQUEST_SECONDS = 30.0
"""A part of 5 MiB at 170 KB/s. Callers that cannot wait so long have their own limits."""
READ_SECONDS = 3600.0
"""For downloading a whole log; a download that stalls fails after REQUEST_SECONDS."""
RETRIES = 2
"""For a connection that the store closed, or a server that is being replaced: all within half a second."""

_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}")
_ACCOUNT_HOST = re.compile(r"[a-z0-9-]{3,63}@[a-z0-9]{3,24}\.(dfs|blob)\.[a-z0-9.-]+")
_PREFIX_PART = re.compile(r"(?!\.+$)[A-Za-z0-9._=+,@-]+")
_SECRET = re.compile(r"KEY|SECRET|TOKEN|PASSWORD|SAS")
_EXPECTED = (
    "the value must be redis, none, or a URL: file:///folder, s3://bucket/prefix, gs://bucket/prefix, az://container/prefix or"
    " abfs://container@account.dfs.core.windows.net/prefix"
)


class StoreUrl(NamedTuple):
    """A place in a store: `root` names the store, `path` is a key in it."""

    root: str
    path: str

    @property
    def scheme(self) -> str:
        return self.root.partition("://")[0]

    @property
    def text(self) -> str:
        return f"{self.root}/{self.path}" if self.path else self.root


def parse(url: str) -> StoreUrl:
    """Raises ValueError, which says what is wrong and repeats nothing of a URL that may contain a secret."""
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in SCHEMES:
        raise ValueError(_EXPECTED)
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError(f"the URL does not parse; {_EXPECTED}") from None
    path = parts.path.removeprefix("/").removesuffix("/")
    if fault := _fault_of(url, scheme, parts.netloc, path):
        raise ValueError(f"{fault}; {_EXPECTED}")
    return StoreUrl(f"{scheme}://{parts.netloc}", path)


def _fault_of(url: str, scheme: str, place: str, path: str) -> str | None:
    if ":" in place or ("@" in place and not scheme.startswith("abfs")) or "?" in url or "#" in url:
        return "credentials and options belong in the environment, not in the URL"
    if scheme == "file":
        if place:
            return "a file URL needs three slashes and an absolute path"
        if not path:
            return "the root of the file system cannot store logs"
    elif not (_ACCOUNT_HOST if "@" in place else _HOST).fullmatch(place):
        return "the name of the bucket, container or account is invalid"
    if path and not all(map(_PREFIX_PART.fullmatch, path.split("/"))):
        return "a part of the path is empty or contains a character other than A-Z a-z 0-9 . _ = + , @ -"
    return None


def open_store(url: StoreUrl, *, request_seconds: float = REQUEST_SECONDS) -> "ObjectStore":
    """Does no I/O. Raises ValueError for missing or wrong variables of the environment, ImportError without obstore."""
    try:
        from obstore.exceptions import BaseError
        from obstore.store import LocalStore, from_url
    except ImportError:
        raise ImportError("obstore is missing; object stores need: pip install 'jobcast[archive]'") from None
    if url.scheme == "file":
        return LocalStore()
    client: Any = {
        "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
        "timeout": timedelta(seconds=request_seconds),
        "read_timeout": timedelta(seconds=REQUEST_SECONDS),
        "default_content_type": "text/plain",
        # These options replace those that obstore reads from the environment. An endpoint with http:// there is intended.
        "allow_http": any(_wants_http(name, value) for name, value in os.environ.items()),
    }
    retry: Any = {
        "max_retries": RETRIES,
        "retry_timeout": timedelta(seconds=CONNECT_SECONDS),
        "backoff": {"init_backoff": timedelta(seconds=0.1), "max_backoff": timedelta(seconds=0.5), "base": 2},
    }
    try:
        store: ObjectStore = from_url(url.root, client_options=client, retry_config=retry)
    except (BaseError, OSError) as error:
        raise ValueError(_first_line(str(error))) from None
    return store


def _wants_http(name: str, value: str) -> bool:
    if name in ("AWS_ALLOW_HTTP", "AZURE_ALLOW_HTTP", "GOOGLE_ALLOW_HTTP"):
        return value.lower() in ("1", "true", "yes", "on")
    is_endpoint = name.startswith(("AWS_", "AZURE_", "GOOGLE_")) and ("ENDPOINT" in name or name.endswith("BASE_URL"))
    return (is_endpoint and value.startswith("http://")) or name == "AZURE_STORAGE_USE_EMULATOR"


def errors() -> tuple[type[Exception], ...]:
    """What obstore raises when a store rejects a request or does not answer. Any other exception is a bug."""
    from obstore.exceptions import BaseError

    return BaseError, OSError, NotImplementedError


def explain(error: Exception, url: StoreUrl) -> LogStoreError:
    """An error of obstore or the file system, as one line with a reason."""
    text = str(error)
    for pattern, reason, meaning in _MEANINGS:
        if pattern.search(text):
            return LogStoreError(reason, f"{url.text}: {meaning or _first_line(text)}")
    if status := re.search(r"status code: (\d{3})", text):
        is_refused = status[1] in ("301", "501", "507") or (status[1].startswith("4") and status[1] not in _BUSY)
        line = _answer_of(text, status[1])
    else:
        system = re.search(r"\(os error (\d+)\)", text)
        is_refused = system is not None and int(system[1]) in _REFUSING_ERRNOS
        line = _first_line(text)
    return LogStoreError(REFUSED if is_refused else UNAVAILABLE, f"{url.text}: {line}")


_BUSY = ("408", "425", "429")
_REFUSING_ERRNOS = frozenset({1, 2, 13, 17, 20, 21, 27, 28, 30, 36, 40, 122})
"""Of Linux: not permitted, no such file, permission denied, exists, (not) a directory, too big, no space, read-only, name too
long, too many links, quota."""
_MEANINGS: tuple[tuple[re.Pattern[str], str, str], ...] = (
    (
        re.compile(r"HTTP error: builder error"),
        REFUSED,
        "the endpoint is not https; write it with http:// or set AWS_ALLOW_HTTP=true",
    ),
    (
        re.compile(r"http://(169\.254\.169\.254|metadata\.google\.internal|\[fd00:ec2::254\])"),
        REFUSED,
        "the environment has no credentials, and the machine provides none",
    ),
    (re.compile(r"ConnectionRefused"), UNAVAILABLE, "nothing listens at the endpoint (connection refused)"),
    (re.compile(r"dns error"), UNAVAILABLE, "the name of the endpoint does not resolve"),
    (re.compile(r"InvalidCertificate"), REFUSED, "the certificate of the endpoint is not trusted"),
    (re.compile(r"InvalidContentType"), REFUSED, "the endpoint does not speak TLS; write it with http://"),
    (re.compile(r"TimedOut"), UNAVAILABLE, "the store does not answer in time"),
    (re.compile(r"ConnectionReset|IncompleteMessage|BrokenPipe"), UNAVAILABLE, "the store closed the connection"),
)


def _answer_of(text: str, status: str) -> str:
    """The status, with the code and the message in the XML that S3, Azure and GCS send."""
    code = re.search(r"<Code>([^<]{1,80})</Code>", text)
    message = re.search(r"<Message>([^<\n]{1,200})", text)
    words = [unescape(match[1].strip()) for match in (code, message) if match is not None]
    return f"the store answered {status}" + (f": {_mask_secrets(': '.join(words))}" if words else _hint(status))


def _hint(status: str) -> str:
    return {
        "301": ": the bucket is in another region, see AWS_REGION",
        "401": ": the credentials are wrong",
        "403": ": the credentials are wrong or lack a permission",
        "404": ": there is no such bucket or container",
    }.get(status, "")


def _first_line(text: str) -> str:
    # Queries may be signed. The lines after the first are details of the HTTP library.
    line = re.sub(r"\?\S*", "", text.partition("\n")[0]).strip()
    line = re.sub(r"^Generic \w+ error: ", "", line.rpartition(" - ")[2])
    return _mask_secrets(line)[:300] or "no reason given"


def _mask_secrets(line: str) -> str:
    """The line without the secrets of the environment, which a store or a library may have put into it."""
    for name, value in os.environ.items():
        if name.startswith(("AWS_", "AZURE_", "GOOGLE_")) and _SECRET.search(name) and len(value) >= 8:
            line = line.replace(value, "***")
    return line
