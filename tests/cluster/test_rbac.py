"""M10: a real API server says what operator and gateway may do, and it is their tables and what everybody may."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from chart.cluster import Refused, applied, kubectl, namespace
from chart.rendering import is_hook, render
from corral.cluster.grants import Grant
from corral_gateway import access as gateway
from corral_operator.access import GRANTS, Scope, grants
from eventually import eventually

#: (resource with group, name or empty) -> verbs
Rights = dict[tuple[str, str], set[str]]


def rights(where: str, user: str) -> Rights:
    """Return what the API server says that a user may do in a namespace, beside reading discovery."""
    found: Rights = {}
    listing = kubectl("auth", "can-i", "--list", f"--namespace={where}", user=user)
    for line in listing.splitlines()[1:]:
        parts = re.fullmatch(r"(\S*)\s+\[(.*?)\]\s+\[(.*?)\]\s+\[(.*?)\]\s*", line)
        assert parts is not None, line
        resource, _, names, verbs = parts.groups()
        if resource:
            for name in names.split() or [""]:
                found.setdefault((resource, name), set()).update(verbs.split())
    return found


def as_rights(granted: Iterator[Grant[Any]]) -> Rights:
    found: Rights = {}
    for grant in granted:
        for resource in grant.resources:
            plural, _, subresource = resource.partition("/")
            named = ".".join(part for part in (plural, grant.group) if part)
            for name in grant.names or ("",):
                key = (f"{named}/{subresource}" if subresource else named, name)
                found.setdefault(key, set()).update(grant.verbs)
    return found


def both(*parts: Rights) -> Rights:
    found: Rights = {}
    for part in parts:
        for key, verbs in part.items():
            found.setdefault(key, set()).update(verbs)
    return found


@pytest.fixture(scope="module")
def places() -> Iterator[dict[str, str]]:
    """The operator's namespace, one it serves, one whose Secrets it may read too, and one it has nothing to do with."""
    with namespace() as own, namespace() as served, namespace() as late, namespace() as foreign:
        values = {
            "namespaces": [served, late],
            "secrets": {"lateNamespaces": [late]},
            "gateway": {"kubernetesTokens": False, "liveOutput": True, "taskNamespace": late},
        }
        objects = [
            each
            for each in render(values, namespace=own)
            if each["kind"] in {"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding", "ServiceAccount"}
            and not is_hook(each)
        ]
        assert not {"ClusterRole", "ClusterRoleBinding"} & {each["kind"] for each in objects}
        with applied(objects):
            user = f"system:serviceaccount:{own}:corral-operator"
            eventually(lambda: rights(late, user), lambda found: ("secrets", "") in found)
            yield {
                "own": own,
                "served": served,
                "late": late,
                "foreign": foreign,
                "user": user,
                "gateway": f"system:serviceaccount:{own}:corral-gateway",
            }


def test_M10_the_account_has_the_rights_of_the_table_and_no_others(places: dict[str, str]) -> None:
    # What every account has: to ask about itself.
    anybody = rights(places["foreign"], f"system:serviceaccount:{places['foreign']}:nobody")
    assert all(key[0].startswith("self") for key in anybody)
    expected = {
        "own": as_rights(grants(Scope.OWN)),
        "served": as_rights(grants(Scope.SERVED)),
        "late": both(as_rights(grants(Scope.SERVED)), as_rights(grants(Scope.LATE_SECRETS))),
        "foreign": {},
    }
    found = {name: rights(places[name], places["user"]) for name in expected}
    assert found == {name: both(anybody, each) for name, each in expected.items()}


def test_M10_what_it_must_never_do_it_cannot(places: dict[str, str]) -> None:
    never = [
        ("served", "get", "secrets"),
        ("served", "list", "secrets"),
        ("own", "list", "secrets"),
        ("own", "get", "secrets/other"),
        ("own", "delete", "secrets/corral-runner-key"),
        ("late", "list", "secrets"),
        ("served", "update", "agenttasks"),
        ("served", "create", "agenttasks"),
        ("served", "patch", "pods"),
        ("served", "create", "pods/exec"),
        ("served", "create", "pods/attach"),
        ("served", "create", "pods/ephemeralcontainers"),
        ("served", "delete", "networkpolicies"),
        ("served", "patch", "networkpolicies/other"),
        ("served", "create", "serviceaccounts/token"),
        ("served", "create", "rolebindings.rbac.authorization.k8s.io"),
        ("served", "get", "nodes"),
        ("served", "list", "namespaces"),
        ("served", "list", "customresourcedefinitions.apiextensions.k8s.io"),
        ("own", "update", "leases.coordination.k8s.io/other"),
        ("foreign", "list", "pods"),
    ]
    able = []
    for place, verb, resource in never:
        plural, _, rest = resource.partition("/")
        asked = (
            [f"--subresource={rest}", plural]
            if rest in {"exec", "attach", "ephemeralcontainers", "token"}
            else [resource]
        )
        try:
            answer = kubectl(
                "auth", "can-i", verb, *asked, f"--namespace={places[place]}", user=places["user"]
            )
        except Refused as refused:
            answer = str(refused) or "no"
        if answer.strip().splitlines()[-1] == "yes":
            able.append((place, verb, resource))
    assert able == []
    assert GRANTS


def test_M10_serving_all_namespaces_grants_the_same_in_each_and_no_more() -> None:
    with namespace() as own, namespace() as any_one:
        objects = [
            each
            for each in render({"namespaces": ["*"]}, namespace=own)
            if each["kind"] in {"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding", "ServiceAccount"}
            and not is_hook(each)
        ]
        user = f"system:serviceaccount:{own}:corral-operator"
        with applied(objects):
            expected = as_rights(grants(Scope.SERVED))
            eventually(lambda: rights(any_one, user), lambda found: expected.items() <= found.items())
            anybody = rights(any_one, f"system:serviceaccount:{any_one}:nobody")
            assert rights(any_one, user) == both(anybody, expected)


def test_M10_the_gateways_account_has_the_rights_of_its_table_and_no_others(places: dict[str, str]) -> None:
    anybody = rights(places["foreign"], f"system:serviceaccount:{places['foreign']}:nobody")
    granted = {scope: as_rights(gateway.grants(scope)) for scope in gateway.Scope}
    expected: dict[str, Rights] = {
        "own": granted[gateway.Scope.RUNNER_KEY],
        "served": granted[gateway.Scope.SERVED],
        "late": both(
            granted[gateway.Scope.SERVED],
            *(granted[scope] for scope in (gateway.Scope.TASKS, gateway.Scope.TOOLS, gateway.Scope.PODS)),
        ),
        "foreign": {},
    }
    found = {name: rights(places[name], places["gateway"]) for name in expected}
    assert found == {name: both(anybody, each) for name, each in expected.items()}


@pytest.mark.parametrize(
    ("place", "verb", "resource"),
    [
        ("served", "create", "agenttasks"),
        ("served", "patch", "agenttasks"),
        ("late", "delete", "agenttasks"),
        ("served", "create", "tools"),
        ("late", "patch", "tools"),
        ("late", "get", "secrets"),
        ("late", "list", "pods"),
        ("late", "create", "pods"),
        ("own", "get", "secrets/other"),
        ("own", "list", "secrets"),
        ("served", "watch", "pods"),
        ("foreign", "list", "agenttasks"),
        ("foreign", "create", "tokenreviews.authentication.k8s.io"),
    ],
)
def test_M10_what_the_gateway_must_never_do_it_cannot(
    places: dict[str, str], place: str, verb: str, resource: str
) -> None:
    asked = ("auth", "can-i", verb, resource, f"--namespace={places[place]}")
    with pytest.raises(Refused):
        kubectl(*asked, user=places["gateway"])
