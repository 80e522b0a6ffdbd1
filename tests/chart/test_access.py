"""M10: the rights of operator and gateway are their tables', wherever they work."""

from typing import Any

import pytest

from chart.rendering import Object, is_hook, of_kind, render
from corral.cluster.names import RUNNER_KEY_SECRET
from corral_gateway import access as gateway
from corral_operator.access import GRANTS, Scope, grants


def granted(objects: list[Object], account: str) -> dict[str, list[dict[str, Any]]]:
    """Return an account's rules by namespace; "*" for all. Each role is bound, to one account alone."""
    found: dict[str, list[dict[str, Any]]] = {}
    for role in [
        each for each in of_kind(objects, "Role") + of_kind(objects, "ClusterRole") if not is_hook(each)
    ]:
        namespace = role["metadata"].get("namespace", "*")
        (binding,) = [
            each
            for each in of_kind(objects, f"{role['kind']}Binding")
            if each["roleRef"]["name"] == role["metadata"]["name"]
            and each["metadata"].get("namespace", "*") == namespace
        ]
        assert binding["roleRef"]["kind"] == role["kind"]
        (subject,) = binding["subjects"]
        assert (subject["kind"], subject["namespace"]) == ("ServiceAccount", "corral")
        assert subject["name"] in {"corral-operator", "corral-gateway"}
        if subject["name"] == account:
            found.setdefault(namespace, []).extend(role["rules"])
    return found


def in_order(rules: dict[str, list[Any]]) -> dict[str, list[str]]:
    return {where: sorted(map(str, each)) for where, each in rules.items()}


SERVED = [grant.to_rule() for grant in grants(Scope.SERVED)]
OWN = [grant.to_rule() for grant in grants(Scope.OWN)]
LATE = [grant.to_rule() for grant in grants(Scope.LATE_SECRETS)]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, {"corral": SERVED + OWN}),
        ({"namespaces": ["a", "b"]}, {"a": SERVED, "b": SERVED, "corral": OWN}),
        ({"namespaces": ["*"]}, {"corral": OWN, "*": SERVED}),
        (
            {"namespaces": ["a"], "secrets": {"lateNamespaces": ["a", "c"]}},
            {"a": SERVED + LATE, "c": LATE, "corral": OWN},
        ),
    ],
    ids=["own", "listed", "all", "late secrets"],
)
def test_M10_the_roles_are_the_table(values: dict[str, Any], expected: dict[str, Any]) -> None:
    assert in_order(granted(render(values), "corral-operator")) == in_order(expected)


READ, TASKS, TOOLS, PODS, KEY, TOKENS = (
    [grant.to_rule() for grant in gateway.grants(scope)] for scope in gateway.Scope
)
MAKE = TASKS + TOOLS


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, {"corral": READ + MAKE, "*": TOKENS}),
        ({"namespaces": ["a", "b"]}, {"a": READ + MAKE, "b": READ, "*": TOKENS}),
        (
            {"namespaces": ["a", "b"], "gateway": {"taskNamespace": "b"}},
            {"a": READ, "b": READ + MAKE, "*": TOKENS},
        ),
        (
            {"namespaces": ["a", "b", "c"], "gateway": {"callerNamespaces": {"ann": "b"}}},
            {"a": READ + MAKE, "b": READ + MAKE, "c": READ, "*": TOKENS},
        ),
        ({"namespaces": ["*"]}, {"corral": MAKE, "*": READ + TOKENS}),
        (
            {"namespaces": ["*"], "gateway": {"taskNamespace": "team-{caller}"}},
            {"*": READ + MAKE + TOKENS},
        ),
        ({"gateway": {"kubernetesTokens": False}}, {"corral": READ + MAKE}),
        ({"gateway": {"toolRegistration": False}}, {"corral": READ + TASKS, "*": TOKENS}),
        (
            {"namespaces": ["a"], "gateway": {"kubernetesTokens": False, "liveOutput": True}},
            {"a": READ + MAKE + PODS, "corral": KEY},
        ),
        ({"gateway": {"enabled": False}}, {}),
    ],
    ids=[
        "own",
        "first",
        "named",
        "mapped",
        "all",
        "each caller's",
        "no tokens",
        "no tools",
        "live output",
        "off",
    ],
)
def test_M10_the_gateways_roles_are_its_table(values: dict[str, Any], expected: dict[str, Any]) -> None:
    assert in_order(granted(render(values), "corral-gateway")) == in_order(expected)


def test_M10_the_gateways_table_grants_no_pod_no_status_and_no_secret_of_tenants() -> None:
    for grant in gateway.GRANTS:
        assert "*" not in (grant.group, *grant.resources, *grant.verbs), grant
        assert grant.why
        assert not {"bind", "escalate", "impersonate", "deletecollection"} & set(grant.verbs), grant
        # It replaces and deletes tools, and nothing else.
        assert not {"update", "delete"} & set(grant.verbs) or grant.resources == ("tools",)
        if grant.group == "":
            assert (grant.resources, grant.names, grant.verbs) in (
                (("secrets",), (RUNNER_KEY_SECRET,), ("get",)),
                (("pods",), (), ("watch",)),
            )
        assert not any("/" in resource for resource in grant.resources)
    assert RUNNER_KEY_SECRET == "corral-runner-key"


def test_M10_a_role_of_the_operator_alone_is_left_when_the_gateway_is_off() -> None:
    objects = render({"gateway": {"enabled": False}})
    assert [each for each in objects if "gateway" in each["metadata"]["name"]] == []


def test_M10_the_table_grants_no_wildcard_no_escalation_and_no_secrets_of_tenants() -> None:
    for grant in GRANTS:
        assert "*" not in (grant.group, *grant.resources, *grant.verbs), grant
        assert grant.why
        assert not {"bind", "escalate", "impersonate", "deletecollection"} & set(grant.verbs), grant
        assert not {"pods/exec", "pods/attach", "pods/ephemeralcontainers", "nodes", "namespaces"} & set(
            grant.resources
        )
        if "secrets" in grant.resources and grant.scope is not Scope.LATE_SECRETS:
            assert grant.scope is Scope.OWN
            assert grant.verbs == ("create",) or grant.names == ("corral-runner-key",)
        if "list" in grant.verbs:
            assert "secrets" not in grant.resources


def test_M10_every_resource_that_is_called_is_in_a_table() -> None:
    from corral.cluster import port

    called = {value.plural for value in vars(port).values() if isinstance(value, port.Resource)}
    granted = [grant.resources for grant in GRANTS] + [grant.resources for grant in gateway.GRANTS]
    assert called == {resource.split("/")[0] for resources in granted for resource in resources}
