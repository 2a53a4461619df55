"""Which connections NetworkPolicies let through, as Kubernetes documents it. Pure: the clusters of tests may enforce none."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

Obj = dict[str, Any]


@dataclass(frozen=True)
class Pod:
    namespace: str
    labels: Mapping[str, str]
    namespace_labels: Mapping[str, str] = field(default_factory=dict)
    """Beside the one that each namespace has of its own name."""
    ports: Mapping[str, int] = field(default_factory=dict)
    """The named ones."""

    @property
    def labels_of_namespace(self) -> Mapping[str, str]:
        return {"kubernetes.io/metadata.name": self.namespace, **self.namespace_labels}


@dataclass(frozen=True)
class Outside:
    """An address that is no Pod's."""

    address: str


End = Pod | Outside


def passes(policies: Iterable[Obj], source: End, target: End, port: int, protocol: str = "TCP") -> bool:
    """Whether a connection is let out where it begins, and in where it ends."""
    policies = list(policies)
    # A name of a port is that of the Pod which is connected to, whichever side says it.
    names = target.ports if isinstance(target, Pod) else {}
    return all(
        _lets(policies, direction, own, other, (port, protocol), names)
        for direction, own, other in (("Egress", source, target), ("Ingress", target, source))
    )


def _lets(
    policies: list[Obj], direction: str, own: End, other: End, wanted: tuple[int, str], names: Mapping[str, int]
) -> bool:
    if isinstance(own, Outside):
        return True
    about = [policy for policy in policies if direction in _types(policy["spec"]) and _is_about(policy, own)]
    rules = [rule for policy in about for rule in policy["spec"].get(direction.lower()) or ()]
    peers = "to" if direction == "Egress" else "from"
    return not about or any(
        _has_port(rule.get("ports"), wanted, names)
        and (not rule.get(peers) or any(_is_peer(peer, other, own.namespace) for peer in rule[peers]))
        for rule in rules
    )


def _types(spec: Obj) -> list[str]:
    types: list[str] = spec.get("policyTypes") or ["Ingress", *(["Egress"] if "egress" in spec else [])]
    return types


def _is_about(policy: Obj, pod: Pod) -> bool:
    return policy["metadata"]["namespace"] == pod.namespace and selects(policy["spec"]["podSelector"], pod.labels)


def _has_port(ports: list[Obj] | None, wanted: tuple[int, str], names: Mapping[str, int]) -> bool:
    def has(port: Obj) -> bool:
        number = port.get("port")
        first = names.get(number) if isinstance(number, str) else number
        return port.get("protocol", "TCP") == wanted[1] and (
            number is None or (first is not None and first <= wanted[0] <= port.get("endPort", first))
        )

    return not ports or any(map(has, ports))


def _is_peer(peer: Obj, other: End, namespace: str) -> bool:
    if "ipBlock" in peer:
        block = peer["ipBlock"]
        # Of a Pod's own address nothing can be known here, and policies should not go by it.
        return (
            isinstance(other, Outside)
            and _is_in(block["cidr"], other)
            and not any(_is_in(one, other) for one in block.get("except", ()))
        )
    if isinstance(other, Outside):
        return False
    is_there = (
        selects(peer["namespaceSelector"], other.labels_of_namespace)
        if "namespaceSelector" in peer
        else other.namespace == namespace
    )
    return is_there and selects(peer.get("podSelector", {}), other.labels)


def _is_in(cidr: str, outside: Outside) -> bool:
    return ip_address(outside.address) in ip_network(cidr)


def selects(selector: Obj, labels: Mapping[str, str]) -> bool:
    """An empty selector selects everything."""
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        _holds(said, labels.get(said["key"])) for said in selector.get("matchExpressions", ())
    )


def _holds(said: Obj, value: str | None) -> bool:
    match said["operator"]:
        case "In":
            return value in said["values"]
        case "NotIn":
            return value not in said["values"]
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
    raise ValueError(said["operator"])
