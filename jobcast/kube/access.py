"""Where the cluster is and our credentials, found as kubectl does: service account, else KUBECONFIG, else ~/.kube/config.

kubernetes-asyncio reads them: tokens, client certificates, exec plugins, OIDC. Importing all of it costs 1 s of CPU and 55 MB
for generated models that we do not use (docs/adr/0002), so only its configuration is imported.
"""

import asyncio
import functools
import hashlib
import importlib
import importlib.util
import logging
import os
import re
import ssl
import sys
import types
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
LONGEST_LINE = 300
"""Characters of the library's error message: a parser may quote a whole file."""
CREDENTIALS_SECONDS = 60.0
"""The longest that an exec plugin or an identity provider may take: with some of them, people log in."""
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_PACKAGE = "kubernetes_asyncio"
# It logs the errors of an exec plugin and also raises them. We report them once.
logging.getLogger(f"{_PACKAGE}.config").setLevel(logging.CRITICAL)


class NoCluster(Exception):
    """No usable configuration: the message names the file and what is wrong with it."""


class Access:
    """A cluster's address, its certificates and the credentials for it."""

    def __init__(self, configuration: Any, namespace: str, reload: Callable[[], Awaitable[str]]) -> None:
        self._configuration = configuration
        self._reload = reload
        self.host: str = configuration.host.rstrip("/")
        self.proxy: str | None = configuration.proxy
        self.namespace = namespace
        """The Pod's own namespace, else the context's, else `default`."""

    @classmethod
    async def find(cls) -> "Access":
        """Raises NoCluster."""
        library = _library()
        configuration = library.configuration.Configuration()

        async def reload() -> str:
            return await _load(library, configuration)

        namespace = await reload()
        return cls(configuration, namespace, reload)

    async def headers(self) -> dict[str, str]:
        """The headers that authenticate a request. A service account's token is read again every minute."""
        settings = await self._configuration.auth_settings()
        return {auth["key"]: auth["value"] for auth in settings.values() if auth["in"] == "header" and auth["value"]}

    async def refresh(self) -> None:
        """Read the credentials again, as after a 401. Raises NoCluster."""
        await self._reload()

    @property
    def cluster(self) -> str:
        """Identifies the cluster, whatever address it is reached by. It is a hash of its certificates: that needs no permission."""
        try:
            known_by = Path(self._configuration.ssl_ca_cert or "").read_bytes().strip()
        except OSError:
            known_by = self.host.encode()
        return hashlib.sha256(known_by).hexdigest()[:12]

    def ssl(self) -> ssl.SSLContext | bool:
        """The certificates to trust and to present. Takes 18 ms, so make one and keep it. Raises NoCluster."""
        if self.host.startswith("http://"):
            return False
        configuration = self._configuration
        try:
            context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
            if configuration.cert_file:
                context.load_cert_chain(configuration.cert_file, keyfile=configuration.key_file)
        except (OSError, ValueError) as error:
            raise NoCluster(f"the certificates for {self.host} cannot be used: {error}") from error
        if not configuration.verify_ssl:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def own_namespace() -> str | None:
    """The namespace of the Pod that this process runs in; None outside of a cluster."""
    is_pod = os.environ.get("KUBERNETES_SERVICE_HOST") and NAMESPACE_FILE.exists()
    return NAMESPACE_FILE.read_text().strip() if is_pod else None


async def _load(library: types.SimpleNamespace, configuration: Any) -> str:
    """Fill the configuration; returns the namespace to use by default."""
    # Small local files, read once or after a 401: not worth a thread.
    if (own := own_namespace()) is not None:
        try:
            library.incluster_config.load_incluster_config(client_configuration=configuration)
        except library.config_exception.ConfigException as error:
            raise NoCluster(f"service account: {error}") from error
        return own
    path = os.environ.get("KUBECONFIG") or os.path.expanduser("~/.kube/config")
    if not any(os.path.isfile(os.path.expanduser(part)) for part in path.split(os.pathsep) if part):
        raise NoCluster(f"no kubeconfig at {path} (KUBECONFIG), and this is not a Pod with a service account")
    try:
        async with asyncio.timeout(CREDENTIALS_SECONDS):
            loader = await library.kube_config.load_kube_config(path, client_configuration=configuration)
        context = loader.current_context
        namespace = ((context or {}).get("context") or {}).get("namespace") or "default"
    except asyncio.CancelledError:
        raise
    except TimeoutError:
        late = f"no credentials within {CREDENTIALS_SECONDS:g} s: an exec plugin or identity provider hangs"
        raise NoCluster(f"kubeconfig {path}: {late}") from None
    except (TypeError, AttributeError, KeyError, AssertionError):  # a file that is YAML but no kubeconfig
        raise NoCluster(f"kubeconfig {path}: not a valid kubeconfig; try: kubectl config view") from None
    except Exception as error:
        # The library raises what YAML, base64, an exec plugin or its own checks raise: all mean the same here.
        raise NoCluster(f"kubeconfig {path}: {_line(error)}") from error
    _check_url(path, "server", configuration.host)
    if configuration.proxy:
        _check_url(path, "proxy-url", configuration.proxy)
    if not isinstance(namespace, str) or not _NAMESPACE.fullmatch(namespace):
        raise NoCluster(f"kubeconfig {path}: the namespace of the current context is not a valid name")
    return namespace


def _line(error: Exception) -> str:
    return " ".join("".join(char if char.isprintable() else " " for char in str(error)).split())[:LONGEST_LINE]


def _check_url(path: str, name: str, url: str) -> None:
    """Raises NoCluster, without the URL: it may contain credentials."""
    try:
        parts = urlsplit(url)
        is_right = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_right = False
    if not is_right or not url.isprintable() or " " in url:
        raise NoCluster(f"kubeconfig {path}: the cluster's {name} is not a URL; it must be https://host:port")
    if name == "server" and "@" in parts.netloc:
        raise NoCluster(f"kubeconfig {path}: the cluster's server contains credentials; they belong to the user entry")


@functools.cache
def _library() -> types.SimpleNamespace:
    """kubernetes-asyncio's configuration modules, without the 700 modules of models that its packages import.

    If the package is imported already, its modules are used. Otherwise two empty packages take its place while the modules are
    loaded. They are removed again, so that a later `import kubernetes_asyncio` finds everything. Cached, because modules that
    are loaded again cost 200 KB each time.
    """
    wanted = {
        "configuration": "client.configuration",
        "config_exception": "config.config_exception",
        "incluster_config": "config.incluster_config",
        "kube_config": "config.kube_config",
    }
    is_replaced = _PACKAGE not in sys.modules
    if is_replaced:
        package, client = _empty(_PACKAGE), _empty(f"{_PACKAGE}.client")
        package.client = client  # type: ignore[attr-defined]
        configuration = importlib.import_module(f"{_PACKAGE}.client.configuration")
        client.Configuration = configuration.Configuration  # type: ignore[attr-defined]
        client.ApiClient = None  # type: ignore[attr-defined]
    try:
        return types.SimpleNamespace(
            **{name: importlib.import_module(f"{_PACKAGE}.{path}") for name, path in wanted.items()}
        )
    finally:
        if is_replaced:
            for name in [name for name in sys.modules if name.split(".")[0] == _PACKAGE]:
                del sys.modules[name]


def _empty(name: str) -> types.ModuleType:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.submodule_search_locations is None:
        raise ModuleNotFoundError(f"{name} is needed to connect to a cluster: pip install 'jobcast[controller]'")
    module = types.ModuleType(name)
    module.__path__ = list(spec.submodule_search_locations)
    sys.modules[name] = module
    return module
