"""The Job that `jobcast submit` creates: from an image and a command, or from YAML, with labels added. Pure.

Raises ValueError whose message begins with the name of the wrong option or field.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from jobcast.jobs.model import DEFAULT_CONTAINER

USER = 65532
"""An unprivileged uid: most images run as root by default, which a restricted namespace rejects."""
LONGEST_NAME = 63
"""For a Job: its Pods have the name as a label."""
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_VARIABLE = re.compile(r"[^=\x00-\x20\x7f]+")
_QUANTITY = re.compile(r"[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?")
_EQUALITY = re.compile(r"\s*([^\s=!<>(),]+)\s*==?\s*([^\s=!<>(),]*)\s*")
Obj = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOptions:
    """What the Job runs."""

    image: str
    command: Sequence[str] = ()
    """Empty: the image's own."""
    name: str
    environment: Sequence[str] = ()
    """`NAME=VALUE` each."""
    deadline: int | None = None
    """Seconds that the Job may take; None: no limit."""
    ttl: int = 86_400
    """Seconds until the cluster deletes the ended Job."""
    retries: int = 0
    """Further attempts after a failed one."""
    cpu: str | None = None
    memory: str | None = None
    user: int = USER


def job_from_image(options: JobOptions) -> Obj:
    """A Job that a namespace with the Pod Security level `restricted` accepts. Raises ValueError."""
    container: Obj = {
        "name": DEFAULT_CONTAINER,
        "image": options.image,
        "imagePullPolicy": "IfNotPresent",  # an image that was loaded onto the nodes is not in a registry
        "env": [_variable(one) for one in options.environment],
        "resources": _resources(options),
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    if options.command:
        container["command"] = list(options.command)
    pod = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,  # the evaluated code does not need the API server
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": options.user,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
    }
    spec: Obj = {
        "backoffLimit": options.retries,
        "ttlSecondsAfterFinished": options.ttl,
        "template": {"metadata": {}, "spec": pod},
    }
    if options.deadline is not None:
        spec["activeDeadlineSeconds"] = options.deadline
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": options.name}, "spec": spec}


def job_from_yaml(text: str) -> Obj:
    """The one Job in this YAML. Raises ValueError."""
    try:
        documents = [document for document in yaml.safe_load_all(text) if document is not None]
    except yaml.YAMLError as error:
        raise ValueError(f"--file: it is not YAML: {' '.join(str(error).split())}") from None
    if len(documents) != 1:
        raise ValueError(f"--file: it must contain one Job, and contains {len(documents) or 'no'} documents")
    job = documents[0]
    if not isinstance(job, dict) or (job.get("apiVersion"), job.get("kind")) != ("batch/v1", "Job"):
        kind = f"{job.get('apiVersion')} {job.get('kind')}" if isinstance(job, dict) else "not an object"
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


def add_labels(job: Obj, labels: Sequence[str]) -> None:
    """Add labels, `NAME=VALUE` each, or several with commas. Raises ValueError."""
    for text in (part for one in labels for part in one.split(",")):
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise ValueError(f"--label: {text[:100]!r} is not NAME=VALUE")
        _inner(job["metadata"], "labels")[name] = value


def make_watched(job: Obj, selector: str, label: str, eval_id: str | None) -> Obj:
    """Add what Jobcast selects: the selector's labels, also on the Pods, and the evaluation id, which is by default the Job's
    own, else its name. An id that is not a valid label value becomes an annotation. Raises ValueError."""
    wanted, metadata = labels_of(selector), job["metadata"]
    labels, annotations = _inner(metadata, "labels"), _inner(metadata, "annotations")
    known = labels.get(label) or annotations.get(label)
    if eval_id is not None and known not in (None, eval_id):
        raise ValueError(f"--eval-id: the Job already has {label} {known!r}")
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
    """The labels that the selector selects. Raises ValueError for a requirement other than `name=value`."""
    found = {}
    for requirement in selector.split(","):
        equality = _EQUALITY.fullmatch(requirement)
        if equality is None:
            raise ValueError(
                f"LABEL_SELECTOR: {selector!r} has a requirement that is not name=value, so the labels cannot be"
                " derived from it; label a Job yourself, and create it with kubectl"
            )
        found[equality[1]] = equality[2]
    return found


def name_for(eval_id: str) -> str:
    """The Job name for the evaluation, always the same: its id if that is a valid name, else a similar one."""
    if _NAME.fullmatch(eval_id):
        return eval_id
    digest = hashlib.sha256(eval_id.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{_slug(eval_id)}-{digest}".lstrip("-")


def name_like(image: str, mark: str) -> str:
    """A Job name after the image."""
    return f"{_slug(re.split('[:@]', image.rsplit('/', 1)[-1])[0]) or 'job'}-{mark}"


def check_name(option: str, name: str) -> None:
    """Raises ValueError."""
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{option}: {name[:100]!r} is not a Job name: use 1 to {LONGEST_NAME} lower case letters, digits and -"
        )


def check_eval_id(eval_id: str) -> None:
    """Raises ValueError."""
    if not eval_id.strip() or not eval_id.isprintable() or len(eval_id) > 1000:
        raise ValueError("--eval-id: it must be 1 to 1000 printable characters")


def _slug(text: str) -> str:
    return re.sub("[^a-z0-9]+", "-", text.lower())[:40].strip("-")


def _variable(text: str) -> Obj:
    name, equals, value = text.partition("=")
    if not equals or not _VARIABLE.fullmatch(name):
        raise ValueError(f"--env: {name[:100]!r} is not NAME=VALUE")
    return {"name": name, "value": value}


def _resources(options: JobOptions) -> Obj:
    asked = {"cpu": options.cpu, "memory": options.memory}
    for name, quantity in asked.items():
        if quantity is not None and not _QUANTITY.fullmatch(quantity):
            raise ValueError(
                f"--{name}: {quantity[:100]!r} is not a quantity; use for example 500m or 2 (cpu), 1Gi (memory)"
            )
    amounts = {name: quantity for name, quantity in asked.items() if quantity is not None}
    return {"requests": amounts, "limits": amounts} if amounts else {}


def _inner(obj: Obj, *path: str) -> Obj:
    """The object at the path, created if it is missing. Raises ValueError for anything but an object."""
    for field in path:
        if obj.get(field) is None:
            obj[field] = {}
        obj = obj[field]
        if not isinstance(obj, dict):
            raise ValueError(f"--file: {'.'.join(path)} is not an object")
    return obj
