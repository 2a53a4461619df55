"""The kubeconfig, by kubectl's rules: of several files the first that sets or names something wins, as a whole.

Every field of the context, its cluster and its user is honoured, or NoCluster names file and field: one that is ignored
would let us work in another cluster, or as somebody else. kubectl ignores fields that it does not know; here they are refused in
these three entries and ignored elsewhere.
"""

import base64
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec
import yaml

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
LONGEST_LINE = 300
"""Characters of a message that another program made: a parser may quote a whole file."""
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
EXEC_VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")


class NoCluster(Exception):
    """No usable configuration: the message names the file and what is wrong with it."""


class _Entry(msgspec.Struct, rename="kebab", forbid_unknown_fields=True, frozen=True):
    extensions: Any = None


class Cluster(_Entry, frozen=True):
    server: str = ""
    certificate_authority: str = ""
    certificate_authority_data: str = ""
    insecure_skip_tls_verify: bool = False
    tls_server_name: str = ""
    proxy_url: str = ""
    disable_compression: bool = False

    @property
    def exec_config(self) -> Any:
        """What the kubeconfig's author has for the exec plugin."""
        named = self.extensions if isinstance(self.extensions, list) else []
        found = (
            one for one in named if isinstance(one, dict) and one.get("name") == "client.authentication.k8s.io/exec"
        )
        return next((one.get("extension") for one in found), None)


class Variable(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    name: str
    value: str = ""


class Exec(msgspec.Struct, rename="camel", forbid_unknown_fields=True, frozen=True):
    command: str = ""
    api_version: str = ""
    args: list[str] = []
    env: list[Variable] = []
    interactive_mode: str = ""
    provide_cluster_info: bool = False
    install_hint: str = ""


class User(_Entry, frozen=True):
    client_certificate: str = ""
    client_certificate_data: str = ""
    client_key: str = ""
    client_key_data: str = ""
    token: str = ""
    token_file: str = msgspec.field(default="", name="tokenFile")
    as_: str = msgspec.field(default="", name="as")
    as_uid: str = ""
    as_groups: list[str] = []
    as_user_extra: dict[str, list[str]] = {}
    username: str = ""
    password: str = ""
    auth_provider: Any = None
    exec: Exec | None = None

    @property
    def is_named(self) -> bool:
        """By something else than the exec plugin, which is not run then, as by kubectl."""
        return any((self.token, self.token_file, self.username, self.client_certificate, self.client_certificate_data))


class _Context(_Entry, frozen=True):
    cluster: str = ""
    user: str = ""
    namespace: str = ""


class Kubeconfig(NamedTuple):
    """Paths in it are absolute, or relative to the working folder."""

    where: str
    """What messages call it."""
    files: tuple[str, ...]
    """All that were looked for."""
    context: str
    cluster: Cluster
    user: User
    namespace: str


def own_namespace() -> str | None:
    """The namespace of the Pod that this process runs in; None outside of a cluster."""
    file = SERVICE_ACCOUNT / "namespace"
    return file.read_text().strip() if os.environ.get("KUBERNETES_SERVICE_HOST") and file.exists() else None


def load(context: str | None = None) -> Kubeconfig:
    """What KUBECONFIG lists, else in a Pod its service account, else ~/.kube/config. `context`: of that name, instead of the
    current one. Raises NoCluster."""
    listed = os.environ.get("KUBECONFIG")
    if not listed and (own := own_namespace()) is not None:
        return _service_account(own)
    where = listed or os.path.expanduser("~/.kube/config")
    files = tuple(dict.fromkeys(part for part in where.split(os.pathsep) if part))
    merged = _Merged(f"kubeconfig {where}")
    for file in files:
        merged.add(file)
    if not merged.files:
        pod = "" if listed else ", and this is not a Pod with a service account"
        raise NoCluster(f"no kubeconfig at {where} (KUBECONFIG){pod}")
    return merged.choose(context or merged.current, files)


def _service_account(namespace: str) -> Kubeconfig:
    host, port = (os.environ.get(f"KUBERNETES_SERVICE_{name}", "") for name in ("HOST", "PORT"))
    if not port:
        raise NoCluster("service account: KUBERNETES_SERVICE_PORT is not set")
    cluster = Cluster(
        server=f"https://{f'[{host}]' if ':' in host else host}:{port}",
        certificate_authority=str(SERVICE_ACCOUNT / "ca.crt"),
    )
    user = User(token_file=str(SERVICE_ACCOUNT / "token"))
    return Kubeconfig("service account", (), "", cluster, user, namespace)


class _Merged:
    """All files together."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.files: list[str] = []
        """Those that exist."""
        self.current = ""
        self._named: dict[str, dict[str, tuple[str, Any]]] = {"contexts": {}, "clusters": {}, "users": {}}
        """File and entry, by list and name."""

    def add(self, file: str) -> None:
        """Does nothing if there is no such file. Raises NoCluster."""
        where = f"kubeconfig {file}"
        try:
            text = Path(file).read_text("utf-8-sig")
            content = _without_null(yaml.load(text, _Loader))  # noqa: S506 - it is a safe loader
        except (FileNotFoundError, NotADirectoryError):
            return
        except yaml.MarkedYAMLError as error:  # its own text shows the line, which may have a token in it
            line = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
            raise NoCluster(f"{where}: {one_line(error.problem)}{line}") from None
        except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:
            raise NoCluster(f"{where}: {one_line(error)}") from None
        self.files.append(file)
        content = {} if content is None else content
        if not isinstance(content, dict):
            raise NoCluster(f"{where}: not a valid kubeconfig; try: kubectl config view")
        if content.get("apiVersion", "v1") != "v1" or content.get("kind", "Config") != "Config":
            raise NoCluster(f"{where}: not a valid kubeconfig; apiVersion must be v1 and kind Config")
        current = content.get("current-context", "")
        if not isinstance(current, str):
            raise NoCluster(f"{where}: current-context: not a valid kubeconfig; it must be a string")
        self.current = self.current or current
        for field, entries in self._named.items():
            for name, entry in _entries(where, field, content.get(field, [])):
                entries.setdefault(name, (file, entry))

    def choose(self, context: str, files: tuple[str, ...]) -> Kubeconfig:
        if not context:
            raise NoCluster(f"{self.where}: current-context is not set")
        file, found = self._entry("contexts", context, _Context)
        namespace = found.namespace or own_namespace() or "default"
        if not _NAMESPACE.fullmatch(namespace):
            raise NoCluster(f"kubeconfig {file}: contexts.{context}.namespace: the namespace is not a valid name")
        if not found.cluster:
            raise NoCluster(f"kubeconfig {file}: contexts.{context}.cluster is not set")
        file, cluster = self._entry("clusters", found.cluster, Cluster)
        _check_cluster(f"kubeconfig {file}: clusters.{found.cluster}", cluster)
        cluster = _resolved(file, cluster, "certificate_authority")
        user = User()
        if found.user:
            file, user = self._entry("users", found.user, User)
            _check_user(f"kubeconfig {file}: users.{found.user}", user)
            user = _resolved(file, user, "client_certificate", "client_key", "token_file")
            if user.exec is not None and os.sep in user.exec.command:
                user = msgspec.structs.replace(user, exec=_resolved(file, user.exec, "command"))
        return Kubeconfig(self.where, files, context, cluster, user, namespace)

    def _entry(self, field: str, name: str, kind: type[Any]) -> tuple[str, Any]:
        if name not in self._named[field]:
            raise NoCluster(f"{self.where}: {field} has no entry of the name {one_line(name)}")
        file, entry = self._named[field][name]
        try:
            found = msgspec.convert(entry, kind)
        except msgspec.ValidationError as error:
            what = one_line(error).replace(" - at `$", " - at `").replace("`.", "`")
            raise NoCluster(f"kubeconfig {file}: {field}.{name}: not a valid kubeconfig: {what}") from None
        if b"\\u0000" in msgspec.json.encode(found):  # no path, argument or header may
            raise NoCluster(f"kubeconfig {file}: {field}.{name}: not a valid kubeconfig: it contains a NUL character")
        return file, found


class _Loader(yaml.SafeLoader):
    """Leaves dates as text, as JSON and kubectl do."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own way
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def one_line(error: object) -> str:
    """In printable characters, and not long."""
    return " ".join("".join(char if char.isprintable() else " " for char in str(error)).split())[:LONGEST_LINE]


def decoded(where: str, field: str, data: str) -> bytes:
    """Of base64, in which there may be line breaks. Raises NoCluster."""
    try:
        return base64.b64decode("".join(data.split()), validate=True)
    except ValueError:
        raise NoCluster(f"{where}: {field} is not base64, so the certificates cannot be used") from None


def _without_null(value: Any) -> Any:
    """null means that the field is not set."""
    if isinstance(value, dict):
        return {key: _without_null(one) for key, one in value.items() if one is not None}
    return [_without_null(one) for one in value] if isinstance(value, list) else value


def _entries(where: str, field: str, entries: Any) -> Iterator[tuple[str, Any]]:
    seen = set()
    for entry in entries if isinstance(entries, list) else [entries]:
        if not isinstance(entry, dict) or not isinstance(name := entry.get("name"), str):
            raise NoCluster(f"{where}: {field}: not a valid kubeconfig; it must be a list of entries with a name")
        if name in seen:
            raise NoCluster(f"{where}: {field} has two entries of the name {one_line(name)}")
        seen.add(name)
        yield name, entry.get(field.removesuffix("s"), {})


def _resolved(file: str, entry: Any, *fields: str) -> Any:
    """Relative paths are relative to the file that has them."""
    folder = os.path.dirname(os.path.abspath(file))
    changes = {field: os.path.join(folder, path) for field in fields if (path := getattr(entry, field))}
    return msgspec.structs.replace(entry, **changes)


def _check_cluster(where: str, cluster: Cluster) -> None:
    has_authority = cluster.certificate_authority or cluster.certificate_authority_data
    if cluster.certificate_authority and cluster.certificate_authority_data:
        raise NoCluster(f"{where}: certificate-authority and certificate-authority-data are both set")
    if cluster.insecure_skip_tls_verify and has_authority:
        raise NoCluster(f"{where}: insecure-skip-tls-verify does not go with a certificate-authority")
    _check_url(where, "server", cluster.server)
    if urlsplit(cluster.proxy_url).scheme.startswith("socks"):
        raise NoCluster(f"{where}: proxy-url: SOCKS is not supported; use a proxy with http:// or https://")
    if cluster.proxy_url:
        _check_url(where, "proxy-url", cluster.proxy_url)


def _check_url(where: str, name: str, url: str) -> None:
    """Raises NoCluster, without the URL: it may contain credentials."""
    try:
        parts = urlsplit(url)
        is_right = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_right = False
    if not is_right or not url.isprintable() or " " in url:
        raise NoCluster(f"{where}: the cluster's {name} is not a URL; it must be https://host:port")
    if name == "server" and "@" in parts.netloc:
        raise NoCluster(f"{where}: the cluster's server contains credentials; they belong to the user entry")


def _check_user(where: str, user: User) -> None:
    if user.auth_provider is not None:
        raise NoCluster(f"{where}: auth-provider is not supported; use an exec plugin, such as kubectl oidc-login")
    has_certificate = bool(user.client_certificate or user.client_certificate_data)
    if user.client_certificate and user.client_certificate_data:
        raise NoCluster(f"{where}: client-certificate and client-certificate-data are both set")
    if user.client_key and user.client_key_data:
        raise NoCluster(f"{where}: client-key and client-key-data are both set")
    if has_certificate != bool(user.client_key or user.client_key_data):
        raise NoCluster(f"{where}: client-certificate needs a client-key, and the reverse")
    if (user.token or user.token_file) and (user.username or user.password):
        raise NoCluster(f"{where}: token and username are both set")
    if (user.as_uid or user.as_groups or user.as_user_extra) and not user.as_:
        raise NoCluster(f"{where}: as-uid, as-groups and as-user-extra need as")
    extra = [one for key, values in user.as_user_extra.items() for one in (key, *values)]
    sent = {"token": [user.token], "as": [user.as_, user.as_uid], "as-groups": user.as_groups, "as-user-extra": extra}
    for field, values in sent.items():
        if any(ord(char) < 32 or ord(char) == 127 for value in values for char in value):
            raise NoCluster(f"{where}: {field} contains control characters")
    if user.exec is not None:
        _check_exec(f"{where}: exec", user.exec)


def _check_exec(where: str, plugin: Exec) -> None:
    if not plugin.command:
        raise NoCluster(f"{where}: command is not set")
    if plugin.api_version not in EXEC_VERSIONS:
        raise NoCluster(f"{where}: apiVersion must be {' or '.join(EXEC_VERSIONS)}")
    if plugin.interactive_mode not in ("", "Never", "IfAvailable"):
        raise NoCluster(f"{where}: interactiveMode must be Never or IfAvailable: Jobcast gives a plugin no terminal")
