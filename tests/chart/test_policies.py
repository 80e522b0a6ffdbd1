"""M3, M10: what closes sandboxes is there, and names what the operator's code names."""

from typing import Any

import pytest

from chart.rendering import CHART, Object, of_kind, one, render
from corral.api.crd import RESOURCES
from corral.cluster.names import CALLER_LABEL, RUNNER_KEY_SECRET, RUNNER_PORT
from corral_operator import names
from corral_operator.builders.network_policy import OPERATOR_LABELS, network_policy
from corral_operator.builders.resources import LOG_BYTES, MEMORY_BACKED_BYTES, RUNNER_OVERHEAD_BYTES
from corral_operator.settings import Settings


def without_empty(value: Any) -> Any:
    """Leave out what the API server treats as absent."""
    return {key: each for key, each in value.items() if each not in ({}, [], None)}


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ({}, ["corral"]),
        ({"namespaces": ["a", "b"]}, ["a", "b"]),
        ({"namespaces": ["*"]}, ["corral"]),
        ({"runnerSources": ["app=gateway,tier=web", "app=console"]}, ["corral"]),
    ],
    ids=str,
)
def test_M3_the_policy_of_sandboxes_is_the_operators_own(values: dict[str, Any], where: list[str]) -> None:
    found = [
        each
        for each in of_kind(render(values), "NetworkPolicy")
        if each["metadata"]["name"] == names.NETWORK_POLICY
    ]
    settings = Settings(operator_namespace="corral", runner_sources=tuple(values.get("runnerSources", ())))
    assert [each["metadata"]["namespace"] for each in found] == where
    for each in found:
        assert each["spec"] == network_policy(each["metadata"]["namespace"], settings)["spec"]
        assert each["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


def test_M3_the_operators_pods_are_who_may_reach_sandboxes() -> None:
    template = one(render(release="agents"), "Deployment", "agents-corral-operator")["spec"]["template"]
    assert OPERATOR_LABELS.items() <= template["metadata"]["labels"].items()


def test_M3_the_operator_itself_is_closed_but_for_what_it_does() -> None:
    spec = one(render({"namespaces": ["a"]}), "NetworkPolicy", "corral-operator")["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert [[port["port"] for port in rule["ports"]] for rule in spec["ingress"]] == [[9090], [8080]]
    reached = [[port["port"] for port in rule["ports"]] for rule in spec["egress"]]
    assert reached == [[443, 6443], [53, 53], [RUNNER_PORT]]
    sandboxes = {"matchLabels": {names.SANDBOX_LABEL: "true"}}
    assert spec["egress"][2]["to"] == [
        {
            "namespaceSelector": {
                "matchExpressions": [
                    {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["a"]}
                ]
            },
            "podSelector": sandboxes,
        },
        {"podSelector": sandboxes},
    ]
    narrow = one(
        render({"networkPolicy": {"apiServerCIDRs": ["10.0.0.1/32"]}}), "NetworkPolicy", "corral-operator"
    )
    assert narrow["spec"]["egress"][0]["to"] == [{"ipBlock": {"cidr": "10.0.0.1/32"}}]
    assert of_kind(render({"networkPolicy": {"enabled": False}}), "NetworkPolicy") == []


def policies(values: dict[str, Any]) -> dict[str, Object]:
    return {
        each["metadata"]["name"].split(".")[0]: each
        for each in of_kind(render(values), "ValidatingAdmissionPolicy")
    }


def test_M10_admission_policies_fail_closed_and_are_bound() -> None:
    values = {"namespaces": ["a"], "sandbox": {"allowedImages": ["registry.example/team"]}}
    found = policies(values)
    assert set(found) == {
        "corral-operator-leases",
        "corral-operator-networkpolicies",
        "corral-operator-secrets",
        "corral-pools",
        "corral-sandboxes",
        "corral-scale",
        "corral-tasks",
        "corral-tools",
        "corral-writers",
    }
    bindings = {
        each["metadata"]["name"].split(".")[0]: each["spec"]
        for each in of_kind(render(values), "ValidatingAdmissionPolicyBinding")
    }
    assert set(bindings) == set(found)
    for name, policy in found.items():
        assert policy["spec"]["failurePolicy"] == "Fail"
        assert bindings[name]["policyName"] == policy["metadata"]["name"]
        assert bindings[name]["validationActions"] == ["Deny"]
        # The operator's account is held to its rules everywhere, tenants where Corral serves them.
        assert ("matchResources" in bindings[name]) is not name.startswith(
            ("corral-operator", "corral-sandboxes")
        )
        for rule in policy["spec"]["validations"]:
            assert len(rule.get("message", "")) + len(rule.get("messageExpression", "")) > 20
            assert "\n" not in rule.get("messageExpression", "") + rule.get("message", "")
    assert policies({"admission": {"enabled": False}}) == {}
    assert of_kind(render({"admission": {"enabled": False}}), "ValidatingAdmissionPolicyBinding") == []


def test_M10_the_templates_name_what_the_code_names() -> None:
    text = "".join(path.read_text() for path in (CHART / "templates").glob("admission-*.yaml"))
    text += (CHART / "templates" / "_admission.tpl").read_text()
    for name in (
        names.SANDBOX_LABEL,
        CALLER_LABEL,
        RUNNER_KEY_SECRET,
        names.LEASE,
        names.NETWORK_POLICY,
    ):
        assert f'"{name}"' in text, name


def test_M2_the_overhead_holds_what_the_builder_adds() -> None:
    from chart.test_values import DEFAULTS
    from corral.api import parse_bytes

    overhead = DEFAULTS["sandbox"]["overhead"]
    assert parse_bytes(overhead["memory"]) == MEMORY_BACKED_BYTES + RUNNER_OVERHEAD_BYTES
    assert parse_bytes(overhead["disk"]) == LOG_BYTES


def test_M10_an_upgrade_brings_the_definitions_and_an_uninstall_leaves_them() -> None:
    objects = render()
    assert of_kind(objects, "CustomResourceDefinition") == []
    script = one(objects, "ConfigMap", "corral-crds")
    wanted = {f"{resource.plural}.corral.dev" for resource in RESOURCES}
    assert set(script["data"]) == {f"{name}.yaml" for name in wanted} | {"apply_crds.py", "cluster_api.py"}
    role = one(objects, "ClusterRole", "corral-crds.corral")
    assert set(role["rules"][0].pop("resourceNames")) == wanted
    assert role["rules"] == [
        {
            "apiGroups": ["apiextensions.k8s.io"],
            "resources": ["customresourcedefinitions"],
            "verbs": ["get", "patch"],
        },
        {
            "apiGroups": ["apiextensions.k8s.io"],
            "resources": ["customresourcedefinitions"],
            "verbs": ["create"],
        },
    ]
    hooks = [each for each in objects if "corral-crds" in each["metadata"]["name"]]
    assert len(hooks) == 5
    assert {each["metadata"]["annotations"]["helm.sh/hook"] for each in hooks} == {"pre-upgrade,pre-rollback"}
    assert [
        each for each in render({"crds": {"upgrade": False}}) if "corral-crds" in each["metadata"]["name"]
    ] == []
