"""What a container is started with: its command line and its environment. Pure, but for our own PATH."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from devcluster.errors import Obj

_REFERENCE = re.compile(r"\$(\$|\(([A-Za-z_][A-Za-z0-9_.-]*)\))")
_KEYED = re.compile(r"^metadata\.(labels|annotations)\['(.+)'\]$")


def expand(text: str, env: dict[str, str]) -> str:
    """`$(NAME)` by its value when there is one; `$$` by a dollar."""

    def value(found: re.Match[str]) -> str:
        return "$" if found[1] == "$" else env.get(found[2], found[0])

    return _REFERENCE.sub(value, text)


def argv_of(spec: Obj, env: dict[str, str]) -> list[str]:
    """Command and arguments. An image's own entry point is unknown here, so no command is a command that succeeds."""
    words = [*(spec.get("command") or []), *(spec.get("args") or [])]
    return [expand(word, env) for word in words] or ["true"]


def environment(pod: Obj, spec: Obj, ip: str, home: Path, local: Mapping[str, str]) -> dict[str, str]:
    """Only what the Pod says and what finding a command takes: nothing of ours leaks in. `local`: see mounts."""
    env = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(home),
        "HOSTNAME": pod["spec"].get("hostname") or pod["metadata"]["name"],
    }
    for item in spec.get("env") or []:
        reference = (item.get("valueFrom") or {}).get("fieldRef")
        if reference:
            env[item["name"]] = _field(pod, reference["fieldPath"], ip)
        elif "value" in item:
            value = expand(item["value"], env)
            env[item["name"]] = local.get(value, value)
    return env


def _field(pod: Obj, path: str, ip: str) -> str:
    meta = pod["metadata"]
    if found := _KEYED.match(path):
        return str((meta.get(found[1]) or {}).get(found[2], ""))
    known = {
        "metadata.name": meta["name"],
        "metadata.namespace": meta["namespace"],
        "metadata.uid": meta["uid"],
        "spec.nodeName": pod["spec"].get("nodeName", ""),
        "spec.serviceAccountName": pod["spec"].get("serviceAccountName", "default"),
        "status.podIP": ip,
        "status.hostIP": "127.0.0.1",
    }
    return str(known.get(path, ""))
