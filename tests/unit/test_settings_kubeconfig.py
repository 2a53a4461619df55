"""A kubeconfig that is nonsense: one line that names the file and what is wrong with it, exit code 2, no secret."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jobcast.kube import Access, NoCluster

SECRET = "s3kr3t"
GOOD = {"server": '"https://127.0.0.1:1"', "cluster": "", "user": f"token: {SECRET}", "context": "cluster: k, user: u"}


def config(**parts: str) -> str:
    given = GOOD | parts
    return f"""
apiVersion: v1
kind: Config
current-context: {given.get("current", "c")}
contexts: [{{name: c, context: {{{given["context"]}}}}}]
clusters: [{{name: k, cluster: {{server: {given["server"]}{given["cluster"]}}}}}]
users: [{{name: u, user: {{{given["user"]}}}}}]
"""


EXEC = "exec: {{apiVersion: client.authentication.k8s.io/v1, command: {}, args: [{}]}}"
CERTIFICATE = 'client-certificate-data: "{0}", client-key-data: "{0}"'
NONSENSE: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "current-context is not set"),
    "no YAML": (f"users: [{{token: {SECRET}}}\nx: ]", "expected ',' or ']'"),
    "never closed": (f'"a: {SECRET}', "unexpected end of stream"),
    "no text": (b"\xff\xfe\x00", "invalid start byte"),
    "a word": ("x", "not a valid kubeconfig"),
    "a list": ("- a", "not a valid kubeconfig"),
    "a number": ("5", "not a valid kubeconfig"),
    "control characters": ("a: \x1b[2J", "special characters are not allowed"),
    "no contexts": ("apiVersion: v1\ncontexts: []\nclusters: []\nusers: []", "current-context"),
    "another kind": ("apiVersion: v1\nkind: Pod", "kind Config"),
    "two of a name": (config().replace("users: [", "users: [{name: u, user: {}}, "), "two entries of the name u"),
    "a context that is not there": (config(current="nope"), "name nope"),
    "a cluster that is not there": (config(context="cluster: zz, user: u"), "name zz"),
    "a user that is not there": (config(context="cluster: k, user: zz"), "name zz"),
    "a context without a cluster": (config(context="user: u"), "cluster"),
    "a namespace that is none": (config(context='cluster: k, user: u, namespace: "Not One!"'), "namespace"),
    "a namespace that is a list": (config(context="cluster: k, user: u, namespace: [a]"), "namespace"),
    "no address": (config(server='""'), "server is not a URL"),
    "an address that is none": (config(server='"not a url"'), "server is not a URL"),
    "an address without a scheme": (config(server='"127.0.0.1:6443"'), "server is not a URL"),
    "an address with another scheme": (config(server='"ftp://127.0.0.1"'), "server is not a URL"),
    "an address with a word for its port": (config(server='"https://127.0.0.1:port"'), "server is not a URL"),
    "an address with a password": (
        config(server=f'"https://user:{SECRET}@127.0.0.1:1"'),
        "contains credentials",
    ),
    "an address that is a number": (config(server="5"), "not a valid kubeconfig"),
    "a proxy that is none": (config(cluster=', proxy-url: "not a url"'), "proxy-url is not a URL"),
    "an authority that is no base64": (config(cluster=', certificate-authority-data: "%%%"'), "certificates"),
    "an authority that is no certificate": (config(cluster=', certificate-authority-data: "AAAA"'), "certificates"),
    "an authority that is not there": (config(cluster=", certificate-authority: /nope/ca.crt"), "/nope/ca.crt"),
    "a client certificate that is none": (config(user=CERTIFICATE.format("AAAA")), "certificates"),
    "a client certificate that is no base64": (config(user=CERTIFICATE.format("!")), ""),
    "a token file that is not there": (config(user="tokenFile: /nope/token"), "/nope/token"),
    "a group with a line break": (config(user=f'token: {SECRET}, as: a, as-groups: ["b\\nc"]'), "as-groups"),
    "a path with NUL": (config(user='tokenFile: "a\\0b"'), "NUL"),
    "a plugin that is not there": (config(user=EXEC.format("no-such-plugin", SECRET)), "no-such-plugin"),
    "a plugin that fails": (config(user=EXEC.format('"false"', SECRET)), "process returned 1"),
    "a plugin that says nothing": (config(user=EXEC.format('"true"', SECRET)), "decode"),
    "a plugin that says what is no answer": (config(user=EXEC.format("echo", f'"{SECRET} {{}}"')), "decode"),
}


@pytest.fixture
def kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "kubeconfig"
    monkeypatch.setenv("KUBECONFIG", str(path))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    return path


async def complaint() -> str:
    with pytest.raises(NoCluster) as raised:
        (await Access.find()).ssl()
    line = str(raised.value)
    assert line.isprintable(), "one line"
    assert len(line) < 500
    assert SECRET not in line
    return line


@pytest.mark.must_survive(36)
@pytest.mark.must_survive(37)
@pytest.mark.parametrize(("content", "says"), NONSENSE.values(), ids=NONSENSE)
async def test_nonsense_is_refused_in_one_line(
    content: str | bytes, says: str, kubeconfig: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    kubeconfig.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert says in await complaint()
    assert capfd.readouterr() == ("", ""), "nor does the library say anything"


async def test_what_is_right_is_taken(kubeconfig: Path) -> None:
    kubeconfig.write_text(config(context="cluster: k, user: u, namespace: evals"))
    access = await Access.find()
    assert (access.host, access.namespace) == ("https://127.0.0.1:1", "evals")
    assert access.ssl()


@pytest.mark.must_survive(36)
async def test_a_file_that_is_not_there_and_a_folder_are_named(kubeconfig: Path) -> None:
    assert str(kubeconfig) in await complaint()
    kubeconfig.mkdir()
    assert str(kubeconfig) in await complaint()


@pytest.mark.must_survive(36)
@pytest.mark.must_survive(37)
@pytest.mark.parametrize(
    "arguments", [["-m", "controller"], ["-m", "jobcast.cli", "finalizers"]], ids=["controller", "finalizers"]
)
def test_a_process_ends_with_code_2_and_the_line(arguments: list[str], kubeconfig: Path) -> None:
    kubeconfig.write_text(config(user=EXEC.format("no-such-plugin", SECRET)))
    if arguments[1] == "jobcast.cli":
        arguments = ["-c", "import sys; sys.argv[1:] = ['finalizers']; from jobcast.cli import main; main()"]
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"REDIS_URL": "redis://127.0.0.1:1"},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.removeprefix("jobcast: ").startswith("KUBECONFIG: ")
    assert "no-such-plugin" in line
    assert SECRET not in line
