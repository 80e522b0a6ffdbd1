"""M10: the operator's rights are the table's, wherever it works."""

from typing import Any

import pytest

from chart.rendering import Object, is_hook, of_kind, render
from corral_operator.access import GRANTS, Scope, grants


def granted(objects: list[Object]) -> dict[str, list[dict[str, Any]]]:
    """Return the rules by namespace; "*" for all. Each role is bound, to the operator's account and nobody else."""
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
        assert binding["subjects"] == [
            {"kind": "ServiceAccount", "name": "corral-operator", "namespace": "corral"}
        ]
        found.setdefault(namespace, []).extend(role["rules"])
    return found


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
    def in_order(rules: list[Any]) -> list[str]:
        return sorted(map(str, rules))

    assert {where: in_order(rules) for where, rules in granted(render(values)).items()} == {
        where: in_order(rules) for where, rules in expected.items()
    }


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


def test_M10_every_resource_that_the_operator_calls_is_in_the_table() -> None:
    from corral.cluster import port

    called = {value.plural for value in vars(port).values() if isinstance(value, port.Resource)}
    assert called == {resource.split("/")[0] for grant in GRANTS for resource in grant.resources}
