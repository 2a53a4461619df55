"""The Job that `jobcast submit` creates: made from an image and a command, or somebody's own with the labels added. Pure.

What is wrong with the wishes is a ValueError whose message begins with the option's or the field's name.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml  # kubernetes-asyncio, which reads the kubeconfig, brings it

from jobcast.jobs.model import DEFAULT_CONTAINER

USER = 65532
"""A uid that is nobody's: most images run as root unless told otherwise, which a restricted namespace refuses."""
LONGEST_NAME = 63
"""Of a Job: its Pods carry it as a label."""
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_VARIABLE = re.compile(r"[^=\x00-\x20\x7f]+")
_QUANTITY = re.compile(r"[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?")
_EQUALITY = re.compile(r"\s*([^\s=!<>(),]+)\s*==?\s*([^\s=!<>(),]*)\s*")
Obj = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the Job is to run."""

    image: str
    command: Sequence[str] = ()
    """In place of the image's own; empty for that."""
    name: str
    environment: Sequence[str] = ()
    """`NAME=VALUE` each."""
    timeout: int | None = None
    """Seconds that the Job may take; None for any time."""
    ttl: int = 86_400
    """Seconds after its end until the cluster removes the Job."""
    retries: int = 0
    """Further attempts after one that failed."""
    cpu: str | None = None
    memory: str | None = None
    user: int = USER


def made(wish: Wish) -> Obj:
    """A Job that a namespace with the Pod Security level `restricted` accepts. Raises ValueError."""
    container: Obj = {
        "name": DEFAULT_CONTAINER,
        "image": wish.image,
        "imagePullPolicy": "IfNotPresent",  # an image that was loaded onto the nodes is in no registry
        "env": [_variable(one) for one in wish.environment],
        "resources": _resources(wish),
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    if wish.command:
        container["command"] = list(wish.command)
    pod = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,  # what is evaluated has no business with the API server
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": wish.user,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
    }
    spec: Obj = {
        "backoffLimit": wish.retries,
        "ttlSecondsAfterFinished": wish.ttl,
        "template": {"metadata": {}, "spec": pod},
    }
    if wish.timeout is not None:
        spec["activeDeadlineSeconds"] = wish.timeout
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": wish.name}, "spec": spec}


def given(text: str) -> Obj:
    """The one Job in this YAML. Raises ValueError."""
    try:
        documents = [document for document in yaml.safe_load_all(text) if document is not None]
    except yaml.YAMLError as error:
        raise ValueError(f"--file: it is no YAML: {' '.join(str(error).split())}") from None
    if len(documents) != 1:
        raise ValueError(f"--file: it must be one Job; there are {len(documents) or 'no'} documents in it")
    job = documents[0]
    if not isinstance(job, dict) or (job.get("apiVersion"), job.get("kind")) != ("batch/v1", "Job"):
        kind = f"{job.get('apiVersion')} {job.get('kind')}" if isinstance(job, dict) else "no object at all"
        raise ValueError(f"--file: it must be a Job of batch/v1, and is {kind}")
    for path in (("metadata",), ("spec",), ("spec", "template")):
        _inner(job, *path)
    metadata = job["metadata"]
    for field in ("labels", "annotations"):
        if any(not isinstance(value, str) for item in _inner(metadata, field).items() for value in item):
            raise ValueError(f"--file: metadata.{field} must be strings; write numbers in quotes")
    if not all(isinstance(metadata.get(field, ""), str) for field in ("name", "namespace", "generateName")):
        raise ValueError("--file: metadata.name and metadata.namespace must be strings; write numbers in quotes")
    return job


def label(job: Obj, labels: Sequence[str]) -> None:
    """Give it these, `NAME=VALUE` each. Raises ValueError."""
    for text in labels:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise ValueError(f"--label: {text[:100]!r} is not NAME=VALUE")
        _inner(job["metadata"], "labels")[name] = value


def labelled(job: Obj, selector: str, label: str, eval_id: str | None) -> Obj:
    """The Job with what makes Jobcast tell of it: the selector's labels, on its Pods too, and the evaluation's id, which is
    by default what the Job has, else its name. An id that can be no label's value is an annotation. Raises ValueError."""
    wanted, metadata = labels_of(selector), job["metadata"]
    labels, annotations = _inner(metadata, "labels"), _inner(metadata, "annotations")
    known = labels.get(label) or annotations.get(label)
    if eval_id is not None and known not in (None, eval_id):
        raise ValueError(f"--eval-id: the Job has {label} {known!r} already")
    eval_id = eval_id or metadata.get("name")
    if eval_id and not known:
        (labels if _LABEL_VALUE.fullmatch(eval_id) else annotations)[label] = eval_id
    for name, value in wanted.items():
        if labels.setdefault(name, value) != value:
            raise ValueError(f"metadata.labels: {name} is {labels[name]!r}, and LABEL_SELECTOR selects {value!r}")
    template = _inner(_inner(job["spec"], "template"), "metadata")
    pods = _inner(template, "labels")
    for name in (*wanted, label):
        if name in labels:
            pods.setdefault(name, labels[name])
    return job


def labels_of(selector: str) -> dict[str, str]:
    """The labels that the selector selects. Raises ValueError where it says anything else than that labels equal values."""
    found = {}
    for requirement in selector.split(","):
        equality = _EQUALITY.fullmatch(requirement)
        if equality is None:
            raise ValueError(
                f"LABEL_SELECTOR: {selector!r} cannot be turned into labels, because not all of it has the form"
                " name=value; label a Job of your own, and create it with kubectl"
            )
        found[equality[1]] = equality[2]
    return found


def name_for(eval_id: str) -> str:
    """A Job's name for the evaluation, always the same: its id where that can be a name, else something like it."""
    if _NAME.fullmatch(eval_id):
        return eval_id
    digest = hashlib.sha256(eval_id.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{_slug(eval_id)}-{digest}".lstrip("-")


def name_like(image: str, mark: str) -> str:
    """A Job's name for a run of the image that nobody named."""
    return f"{_slug(re.split('[:@]', image.rsplit('/', 1)[-1])[0]) or 'job'}-{mark}"


def check_name(option: str, name: str) -> None:
    """Raises ValueError."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{option}: {name[:100]!r} is no name: 1 to {LONGEST_NAME} lower case letters, digits and -")


def check_eval_id(eval_id: str) -> None:
    """Raises ValueError."""
    if not eval_id.strip() or not eval_id.isprintable() or len(eval_id) > 1000:
        raise ValueError("--eval-id: it must be 1 to 1000 characters that can be printed")


def _slug(text: str) -> str:
    return re.sub("[^a-z0-9]+", "-", text.lower())[:40].strip("-")


def _variable(text: str) -> Obj:
    name, equals, value = text.partition("=")
    if not equals or not _VARIABLE.fullmatch(name):
        raise ValueError(f"--env: {name[:100]!r} is not NAME=VALUE")
    return {"name": name, "value": value}


def _resources(wish: Wish) -> Obj:
    asked = {"cpu": wish.cpu, "memory": wish.memory}
    for name, quantity in asked.items():
        if quantity is not None and not _QUANTITY.fullmatch(quantity):
            raise ValueError(
                f"--{name}: {quantity[:100]!r} is no quantity; write for example 500m or 2 (cpu), 1Gi (memory)"
            )
    amounts = {name: quantity for name, quantity in asked.items() if quantity is not None}
    return {"requests": amounts, "limits": amounts} if amounts else {}


def _inner(obj: Obj, *path: str) -> Obj:
    """What is there, made where it is not. Raises ValueError for something else than an object."""
    for field in path:
        if obj.get(field) is None:
            obj[field] = {}
        obj = obj[field]
        if not isinstance(obj, dict):
            raise ValueError(f"--file: {'.'.join(path)} is no object")
    return obj
