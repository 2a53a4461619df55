"""What kustomize makes of k8s/, as `kubectl apply -k` would apply it."""

import os
import re
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
K8S = ROOT / "k8s"
KUBECTL = Path(sys.executable).with_name("kubectl")
COMPONENTS = sorted(path.name for path in (K8S / "components").iterdir())
NAMESPACE = "some-namespace"
HASH = "(-[bcdfghkmt2-9]{10})?"
"""What kustomize puts behind the names of what it generates."""
Obj = dict[str, Any]


@cache
def rendered(folder: Path) -> tuple[Obj, ...]:
    """Fails with what kustomize says."""
    made = subprocess.run([KUBECTL, "kustomize", folder], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    return tuple(yaml.safe_load_all(made.stdout))


def kustomization(folder: Path, components: Iterable[str], namespace: str = NAMESPACE, **more: Any) -> Path:
    """`folder` itself, now a user's own kustomization with these components of ours."""
    ours = Path(os.path.relpath(K8S, folder.resolve()))
    said = {
        "namespace": namespace,
        "resources": [str(ours)],
        "components": [str(ours / "components" / name) for name in components],
        **more,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(said))
    return folder


def one(objects: Iterable[Obj], kind: str, name: str) -> Obj:
    (found,) = [obj for obj in objects if obj["kind"] == kind and re.fullmatch(name + HASH, obj["metadata"]["name"])]
    return found


def pods(objects: Iterable[Obj]) -> dict[str, Obj]:
    """The template of each that makes Pods, by its name."""
    return {obj["metadata"]["name"]: obj["spec"]["template"] for obj in objects if "template" in obj.get("spec", {})}
