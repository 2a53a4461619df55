"""Runs an exec plugin of the kubeconfig, which says who we are (client.authentication.k8s.io)."""

import asyncio
import base64
import contextlib
import os
import shutil
import signal
from datetime import datetime
from typing import Any

import msgspec

from jobcast.kube.kubeconfig import Cluster, Exec, NoCluster, one_line

CREDENTIALS_SECONDS = 60.0
"""The longest that a plugin may take: with some of them, people log in."""


class Status(msgspec.Struct, rename="camel"):
    """What it answers."""

    token: str = ""
    client_certificate_data: str = ""
    client_key_data: str = ""
    expiration_timestamp: datetime | None = None


class _Answer(msgspec.Struct, rename="camel"):
    api_version: str
    kind: str
    status: Status


async def run(where: str, plugin: Exec, cluster: Cluster, authority: bytes) -> Status:
    """It gets no terminal. `authority`: the certificates of `cluster`. Raises NoCluster."""
    command = shutil.which(plugin.command)
    if command is None:
        hint = f"; {one_line(plugin.install_hint)}" if plugin.install_hint else ""
        raise NoCluster(f"{where}: exec: there is no executable {one_line(plugin.command)}{hint}")
    spec: dict[str, Any] = {"interactive": False}
    if plugin.provide_cluster_info:
        spec["cluster"] = _info(cluster, authority)
    asked = {"apiVersion": plugin.api_version, "kind": "ExecCredential", "spec": spec}
    environment = {one.name: one.value for one in plugin.env} | {
        "KUBERNETES_EXEC_INFO": msgspec.json.encode(asked).decode()
    }
    try:
        process = await asyncio.create_subprocess_exec(
            command,
            *plugin.args,
            env=os.environ | environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # without a terminal, and so that all of it can be ended
        )
    except (OSError, ValueError) as error:
        raise NoCluster(f"{where}: exec: {one_line(error)}") from None
    try:
        async with asyncio.timeout(CREDENTIALS_SECONDS):
            out, err = await process.communicate()
    except TimeoutError:
        raise NoCluster(f"{where}: no credentials within {CREDENTIALS_SECONDS:g} s: the exec plugin hangs") from None
    finally:
        # Also what it may have started and left, which holds our pipes.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    if process.returncode:
        said = one_line(err.decode(errors="replace"))
        raise NoCluster(f"{where}: exec: process returned {process.returncode}{said and f'. {said}'}")
    return _status(f"{where}: exec", plugin.api_version, out)


def _status(where: str, version: str, out: bytes) -> Status:
    try:
        answer = msgspec.json.decode(out, type=_Answer)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise NoCluster(f"{where}: cannot decode what the plugin printed as an ExecCredential with a status") from None
    if (answer.api_version, answer.kind) != (version, "ExecCredential"):
        raise NoCluster(f"{where}: the plugin's answer is not an ExecCredential of {version}")
    status = answer.status
    if bool(status.client_certificate_data) != bool(status.client_key_data):
        raise NoCluster(f"{where}: the plugin returned only one of certificate and key")
    if not (status.token or status.client_key_data):
        raise NoCluster(f"{where}: the plugin returned neither token nor certificate")
    if not status.token.isprintable():
        raise NoCluster(f"{where}: the plugin's token contains control characters")
    if status.expiration_timestamp is not None and status.expiration_timestamp.tzinfo is None:
        raise NoCluster(f"{where}: the plugin's expirationTimestamp has no time zone")
    return status


def _info(cluster: Cluster, authority: bytes) -> dict[str, Any]:
    info = {
        "server": cluster.server,
        "tls-server-name": cluster.tls_server_name,
        "insecure-skip-tls-verify": cluster.insecure_skip_tls_verify,
        "certificate-authority-data": base64.b64encode(authority).decode(),
        "proxy-url": cluster.proxy_url,
        "disable-compression": cluster.disable_compression,
    }
    return {name: value for name, value in info.items() if value} | {"config": cluster.exec_config}
