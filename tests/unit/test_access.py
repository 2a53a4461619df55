"""Finding the cluster, as each sweep does anew; and credentials that change, expire or are refused while we run."""

from __future__ import annotations

import asyncio
import datetime
import json
import os
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from jobcast.kube import Access, Api, KubeError, NoCluster, Unauthorized, access, kubeconfig, plugin
from tests.conftest import eventually
from tests.unit.certificates import Authority, data
from tests.unit.seen_server import SeenServer, script

V1 = "client.authentication.k8s.io/v1"


class Config:
    """A kubeconfig, and an exec plugin that counts its runs."""

    def __init__(self, folder: Path, server: str, authority: Authority) -> None:
        self.folder = folder
        self.server = server
        self.authority = authority
        self.runs = folder / "runs"
        self.runs.touch()

    def user(self, user: dict[str, Any], context: str = "c") -> None:
        cluster = {"server": self.server, "certificate-authority-data": data(self.authority.file)}
        config = {
            "current-context": context,
            "contexts": [{"name": name, "context": {"cluster": name, "user": "u"}} for name in ("c", "d")],
            "clusters": [{"name": name, "cluster": cluster} for name in ("c", "d")],
            "users": [{"name": "u", "user": user}],
        }
        (self.folder / "config").write_text(json.dumps(config))

    def plugin(self, text: str = "", **status: Any) -> None:
        answer = self.folder / "answer"
        answer.write_text(json.dumps({"apiVersion": V1, "kind": "ExecCredential", "status": status}))
        command = script(self.folder / "plugin", f"echo >> {self.runs}\n{text}\ncat {answer}")
        self.user({"exec": {"apiVersion": V1, "interactiveMode": "Never", "command": str(command)}})

    @property
    def count(self) -> int:
        return len(self.runs.read_text().splitlines())


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[SeenServer]:
    async with SeenServer(Authority(tmp_path)).serving() as server:
        yield server


@pytest.fixture
def config(server: SeenServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    return Config(tmp_path, server.url, server.authority)


def rfc3339(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(time.time() + seconds, datetime.UTC).isoformat()


@pytest.mark.must_survive(34)
async def test_finding_the_cluster_again_and_again_leaves_nothing_behind(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = config.authority.issue("somebody")
    config.user({"client-certificate-data": data(certificate), "client-key-data": data(key)})
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = len(list(tmp_path.iterdir()))
    for _ in range(5):
        await Access.find()
    assert len(list(tmp_path.iterdir())) == before


async def test_a_cluster_is_known_again_by_its_certificates_whatever_its_address(
    config: Config, tmp_path: Path
) -> None:
    async def cluster(authority: Authority, server: str) -> str:
        config.authority, config.server = authority, server
        config.user({})
        return (await Access.find()).cluster

    one, other = config.authority, Authority(tmp_path, "other")
    assert await cluster(one, "https://a:1") == await cluster(one, "https://b:2")
    assert await cluster(one, "https://a:1") != await cluster(other, "https://a:1")


@pytest.mark.must_survive(45)
async def test_in_a_pod_an_explicit_kubeconfig_wins_over_the_service_account(
    config: Config, server: SeenServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = tmp_path / "account"
    account.mkdir()
    (account / "namespace").write_text("pods-own")
    (account / "token").write_text("of-the-account\n")
    (account / "ca.crt").write_bytes(config.authority.pem)
    host, port = server.url.removeprefix("https://").split(":")
    monkeypatch.setattr(kubeconfig, "SERVICE_ACCOUNT", account)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", port)
    config.user({"token": "of-the-file"})

    async def comes_as() -> tuple[str, str]:
        found = await Access.find()
        async with Api(found) as api:
            await api.version()
        return server.seen[-1]["authorization"], found.namespace

    assert await comes_as() == ("Bearer of-the-file", "pods-own")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "nope"))
    with pytest.raises(NoCluster, match=r"no kubeconfig at .*nope"):
        await Access.find()
    monkeypatch.delenv("KUBECONFIG")
    assert await comes_as() == ("Bearer of-the-account", "pods-own")


# Plugins that hang


@pytest.mark.must_survive(45)
async def test_an_exec_plugin_that_hangs_is_ended_with_all_that_it_started(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugin, "CREDENTIALS_SECONDS", 1.0)
    config.plugin(f"sleep 600 & echo $! > {tmp_path}/pid; wait")
    with pytest.raises(NoCluster, match=r"no credentials within 1 s: the exec plugin hangs"):
        await Access.find()
    pid = int((tmp_path / "pid").read_text())
    await eventually(lambda: not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text())


async def test_a_plugin_that_hangs_when_its_token_is_refused_is_given_up(
    config: Config, server: SeenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.plugin(token="t")
    async with Api(await Access.find()) as api:
        server.refuses.add("t")
        monkeypatch.setattr(plugin, "CREDENTIALS_SECONDS", 1.0)
        config.plugin("sleep 600", token="t")
        with pytest.raises(Unauthorized, match="no credentials within"):
            await api.version()


# Credentials that change


@pytest.mark.must_survive(46)
async def test_a_client_certificate_that_was_renewed_on_disk_is_used_before_any_401(
    config: Config, server: SeenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "LOOK_SECONDS", 0.0)
    certificate, key = config.authority.issue("before")
    config.user({"client-certificate": str(certificate), "client-key": str(key)})
    async with Api(await Access.find()) as api:
        await api.version()
        renewed = config.authority.issue("after")
        os.replace(renewed[0], certificate)
        os.replace(renewed[1], key)
        await api.version()
    assert [one["certificate"] for one in server.seen] == ["before", "after"]


@pytest.mark.must_survive(46)
async def test_a_renewed_certificate_of_which_half_is_written_leaves_the_old_one_in_use(
    config: Config, server: SeenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(access, "RENEWAL_PAUSE_SECONDS", (0.0, 0.0))
    certificate, key = config.authority.issue("before")
    config.user({"client-certificate": str(certificate), "client-key": str(key)})
    async with Api(await Access.find()) as api:
        renewed = config.authority.issue("after")
        os.replace(renewed[0], certificate)
        await api.version()
        os.replace(renewed[1], key)
        await api.version()
    assert [one["certificate"] for one in server.seen] == ["before", "after"]


@pytest.mark.must_survive(46)
async def test_after_a_401_the_certificates_of_an_exec_plugin_are_used_by_the_next_request(
    config: Config, server: SeenServer
) -> None:
    def answer(name: str) -> None:
        certificate, key = config.authority.issue(name)
        config.plugin(clientCertificateData=certificate.read_text(), clientKeyData=key.read_text())

    answer("before")
    async with Api(await Access.find()) as api:
        await api.version()
        answer("after")
        server.refuses.add("before")
        with pytest.raises(Unauthorized):
            await api.version()
        await api.version()
        assert api.access.refused_since is None
    assert [one["certificate"] for one in server.seen] == ["before", "before", "after"]


@pytest.mark.must_survive(46)
async def test_a_token_file_is_read_again_when_it_changes(
    config: Config, server: SeenServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "LOOK_SECONDS", 0.0)
    (tmp_path / "token").write_text("one\n")
    config.user({"tokenFile": "token"})
    async with Api(await Access.find()) as api:
        await api.version()
        (tmp_path / "token").write_text("second\n")
        await api.version()
    assert [one["authorization"] for one in server.seen] == ["Bearer one", "Bearer second"]


@pytest.mark.must_survive(46)
async def test_a_plugin_runs_again_ahead_of_the_end_of_its_credentials_and_not_before(
    config: Config, server: SeenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.plugin(token="one", expirationTimestamp=rfc3339(1000))
    async with Api(await Access.find()) as api:
        for _ in range(3):
            await api.version()
        assert config.count == 1
        config.plugin(token="second", expirationTimestamp=rfc3339(2000))
        before = time.time
        monkeypatch.setattr(time, "time", lambda: before() + 980)
        await asyncio.gather(*(api.version() for _ in range(5)))
    assert config.count == 2
    assert {one["authorization"] for one in server.seen[3:]} == {"Bearer second"}


async def test_a_plugin_whose_credentials_have_expired_already_is_refused(config: Config) -> None:
    config.plugin(token="one", expirationTimestamp=rfc3339(-5))
    with pytest.raises(NoCluster, match="expired"):
        await Access.find()


@pytest.mark.must_survive(46)
async def test_a_refused_plugin_runs_once_for_all_who_ask_and_then_ever_more_seldom(
    config: Config, server: SeenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    config.plugin(token="bad")
    server.refuses.add("bad")
    async with Api(await Access.find()) as api:

        async def try_it() -> None:
            with pytest.raises(Unauthorized):
                await api.version()

        await asyncio.gather(*(try_it() for _ in range(10)))
        assert config.count == 2
        for _ in range(60):  # 30 s
            now += 0.5
            await asyncio.gather(try_it(), try_it(), try_it())
        assert 4 <= config.count <= 8
        assert api.access.refused_since == 1000.0
        server.refuses.clear()
        await api.version()
        assert api.access.refused_since is None


@pytest.mark.must_survive(46)
async def test_a_plugin_that_fails_is_run_ever_more_seldom(
    config: Config, server: SeenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    config.plugin(token="bad")
    async with Api(await Access.find()) as api:
        config.plugin("echo no more >&2; exit 3", token="bad")
        server.refuses.add("bad")
        for _ in range(60):
            with pytest.raises(Unauthorized, match=r"process returned 3\. no more"):
                await api.version()
            now += 0.5
    assert 4 <= config.count <= 8


async def test_a_request_that_asked_first_may_give_up_without_a_second_run(config: Config, server: SeenServer) -> None:
    config.plugin(token="bad")
    server.refuses.add("bad")
    found = await Access.find()
    async with Api(found) as api:
        config.plugin("sleep 0.5", token="good")
        first = asyncio.create_task(api.version())
        await eventually(lambda: config.count == 2)
        first.cancel()
        with pytest.raises(KubeError):
            await api.version()
        await api.version()
    assert config.count == 2


@pytest.mark.must_survive(45)
async def test_a_context_that_somebody_chooses_later_does_not_lead_us_elsewhere(
    config: Config, server: SeenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "RENEWAL_PAUSE_SECONDS", (0.0, 0.0))
    config.user({"token": "old"})
    server.refuses.add("old")
    async with Api(await Access.find()) as api:
        config.user({"token": "new"}, context="d")
        with pytest.raises(Unauthorized):
            await api.version()
        await api.version()
        assert api.access.config.context == "c"
        config.server = "https://127.0.0.1:1"
        config.user({"token": "third"})
        server.refuses.add("new")
        with pytest.raises(Unauthorized, match="server of context c has changed"):
            await api.version()
    assert "Bearer third" not in [one["authorization"] for one in server.seen]
