"""Who may talk to whom, as the rendered NetworkPolicies have it."""

from pathlib import Path

import pytest

from jobcast.cli.manifest import JobOptions, job_from_image, make_watched
from tests.manifests.flows import End, Outside, Pod, passes, selects
from tests.rendered import K8S, Obj, kustomization, pods, rendered

HERE, THERE = "jobcast-demo", "elsewhere"
DEMO = rendered(K8S / "overlays" / "demo")


def part(name: str) -> Pod:
    """One of ours, as it is rendered."""
    template = pods(DEMO)[f"jobcast-{name}"]
    (container,) = template["spec"]["containers"]
    return Pod(
        HERE, template["metadata"]["labels"], ports={port["name"]: port["containerPort"] for port in container["ports"]}
    )


controller, worker, redis = part("controller"), part("worker"), part("redis")
submitted = make_watched(
    job_from_image(JobOptions(image="busybox", name="eval-42")), "app=evaluation", "eval-id", "eval-42"
)
evaluation = Pod(HERE, submitted["spec"]["template"]["metadata"]["labels"])
subscribing_evaluation = Pod(HERE, {"app": "evaluation", "jobcast.dev/subscriber": "true"})
stranger = Pod(HERE, {"app": "web"})
stranger_there = Pod(THERE, {"app": "web"})
subscriber = Pod(HERE, {"jobcast.dev/subscriber": "true"})
subscriber_there = Pod(THERE, {"app": "dashboard"}, {"jobcast.dev/subscriber": "true"})
pod_that_says_so_there = Pod(THERE, {"jobcast.dev/subscriber": "true"})
evaluation_there = Pod(THERE, {"app": "evaluation"}, {"jobcast.dev/subscriber": "true"})
prometheus = Pod("monitoring", {"app": "prometheus"}, {"jobcast.dev/scraper": "true"})
scraper = Pod(HERE, {"jobcast.dev/scraper": "true"})
pretended_controller = Pod(THERE, controller.labels)
dns = Pod("kube-system", {"k8s-app": "kube-dns"})
node_local_dns = Outside("169.254.20.10")
pretended_dns = Pod(THERE, {"k8s-app": "kube-dns"})
api_server = Outside("10.0.0.1")
cloud = Outside("169.254.169.254")
internet = Outside("203.0.113.7")

NEEDED: list[tuple[End, End, int, str]] = [
    *((one, api_server, port, "TCP") for one in (controller, worker) for port in (443, 6443)),
    *((one, redis, 6379, "TCP") for one in (controller, worker, subscriber, subscriber_there)),
    *(
        (one, where, 53, how)
        for one in (controller, worker, evaluation)
        for where in (dns, node_local_dns)
        for how in ("UDP", "TCP")
    ),
    *(
        (one, target, port, "TCP")
        for one in (prometheus, scraper)
        for target, port in ((controller, 8080), (worker, 8081))
    ),
    (controller, internet, 443, "TCP"),  # an object store
]
REFUSED: list[tuple[End, End, int, str]] = [
    # Evaluations are strangers' code.
    *((one, redis, 6379, "TCP") for one in (evaluation, subscribing_evaluation, evaluation_there)),
    *((evaluation, api_server, port, "TCP") for port in (443, 6443, 10250)),
    *((evaluation, target, port, "TCP") for target, port in ((controller, 8080), (worker, 8081))),
    *(
        (evaluation, where, port, "TCP")
        for where, port in ((internet, 443), (cloud, 80), (stranger, 80), (evaluation, 80))
    ),
    (evaluation, internet, 53, "UDP"),
    (evaluation, pretended_dns, 53, "UDP"),
    # Redis is for whom it is for.
    *(
        (one, redis, 6379, "TCP")
        for one in (stranger, stranger_there, pod_that_says_so_there, pretended_controller, prometheus, internet)
    ),
    *(
        (redis, where, port, "TCP")
        for where, port in ((internet, 443), (api_server, 6443), (controller, 8080), (stranger, 80))
    ),
    (subscriber, redis, 26379, "TCP"),
    # The parts answer whoever scrapes, and talk to nobody whom they do not need.
    *((one, controller, 8080, "TCP") for one in (stranger, subscriber, stranger_there, worker, internet)),
    (prometheus, controller, 8081, "TCP"),
    *(
        (one, where, port, "TCP")
        for one in (controller, worker)
        for where, port in ((internet, 80), (cloud, 80), (stranger, 8080), (internet, 22), (evaluation, 80))
    ),
    # Another Redis than the demo's own.
    *((one, where, 6379, "TCP") for one in (controller, worker) for where in (internet, stranger)),
]


def policies(objects: tuple[Obj, ...]) -> list[Obj]:
    return [obj for obj in objects if obj["kind"] == "NetworkPolicy"]


def named(flow: tuple[End, End, int, str]) -> str:
    names = {id(value): name for name, value in globals().items()}
    source, target, port, protocol = flow
    return f"{names[id(source)]} to {names[id(target)]}:{port}/{protocol}".replace("_", " ")


@pytest.mark.parametrize("flow", NEEDED, ids=named)
def test_what_is_needed_passes(flow: tuple[End, End, int, str]) -> None:
    assert passes(policies(DEMO), *flow)


@pytest.mark.parametrize("flow", REFUSED, ids=named)
def test_nothing_else_does(flow: tuple[End, End, int, str]) -> None:
    assert not passes(policies(DEMO), *flow)


@pytest.mark.parametrize("port", [6379, 26379])
def test_without_the_component_redis_may_be_anywhere_but_not_for_evaluations(tmp_path: Path, port: int) -> None:
    ours = policies(rendered(kustomization(tmp_path, [], HERE)))
    assert passes(ours, controller, internet, port)
    assert passes(ours, worker, stranger_there, port)
    assert not passes(ours, evaluation, internet, port)
    assert not passes(ours, evaluation, stranger_there, port)


@pytest.mark.parametrize("source", [evaluation, subscribing_evaluation, evaluation_there])
def test_redis_refuses_evaluations_also_where_nothing_holds_them(source: Pod) -> None:
    its_own = [policy for policy in policies(DEMO) if policy["metadata"]["name"] == "jobcast-redis"]
    assert not passes(its_own, source, redis, 6379)


def test_every_rule_of_ours_lets_through_something_that_is_needed() -> None:
    for policy in policies(DEMO):
        for direction in ("ingress", "egress"):
            for number, rule in enumerate(policy["spec"].get(direction) or ()):
                for what in ("ports", "to", "from"):
                    for index in range(len(rule.get(what, ()))):
                        assert_is_needed(policy, direction, number, what, index)


def assert_is_needed(policy: Obj, direction: str, number: int, what: str, index: int) -> None:
    rules = list(policy["spec"][direction])
    rest = [one for place, one in enumerate(rules[number][what]) if place != index]
    # A list that is empty would let everything through.
    rules[number : number + 1] = [{**rules[number], what: rest}] if rest else []
    without = {**policy, "spec": {**policy["spec"], direction: rules}}
    others = [one for one in policies(DEMO) if one is not policy]
    assert not all(passes([*others, without], *flow) for flow in NEEDED), (
        policy["metadata"]["name"],
        direction,
        number,
        what,
        index,
    )


@pytest.mark.parametrize(
    ("selector", "is_selected"),
    [
        ({}, True),
        ({"matchLabels": {"a": "1"}}, True),
        ({"matchLabels": {"a": "2"}}, False),
        ({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1", "2"]}]}, True),
        ({"matchExpressions": [{"key": "b", "operator": "In", "values": ["1"]}]}, False),
        ({"matchExpressions": [{"key": "b", "operator": "NotIn", "values": ["1"]}]}, True),
        ({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["1"]}]}, False),
        ({"matchExpressions": [{"key": "a", "operator": "Exists"}]}, True),
        ({"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}, False),
    ],
)
def test_selectors_select_as_kubernetes_says(selector: Obj, is_selected: bool) -> None:
    assert selects(selector, {"a": "1"}) is is_selected


ALL_OUT_TO = {"metadata": {"namespace": HERE, "name": "p"}, "spec": {"podSelector": {}, "policyTypes": ["Egress"]}}


@pytest.mark.parametrize(
    ("rule", "is_passed"),
    [
        ({}, True),
        ({"to": [{"ipBlock": {"cidr": "203.0.113.0/24"}}]}, True),
        ({"to": [{"ipBlock": {"cidr": "203.0.113.0/24", "except": ["203.0.113.7/32"]}}]}, False),
        ({"to": [{"namespaceSelector": {}}]}, False),
        ({"ports": [{"port": 400, "endPort": 450}]}, True),
        ({"ports": [{"port": 400}]}, False),
        ({"ports": [{"protocol": "UDP"}]}, False),
        ({"ports": [{"port": "http"}]}, False),
    ],
)
def test_rules_let_through_what_kubernetes_says(rule: Obj, is_passed: bool) -> None:
    policy = {**ALL_OUT_TO, "spec": {**ALL_OUT_TO["spec"], "egress": [rule]}}
    assert passes([policy], stranger, internet, 443) is is_passed
    assert passes([policy], stranger_there, internet, 443), "a policy is about its own namespace alone"
