"""B15: the artifact store is configured once, for operator and gateway, and its keys stand in a Secret alone."""

from typing import Any

import pytest

from chart.rendering import Object, RenderError, one, render
from corral_gateway.settings import Settings as GatewaySettings
from corral_operator.settings import Settings as OperatorSettings

THERE = [{"ipBlock": {"cidr": "10.1.0.0/16"}}]
STORE = {
    "url": "s3://bucket/corral",
    "taskBytes": 1 << 30,
    "endpoint": "https://s3.example.com:9000",
    "region": "eu-central-1",
    "credentialsSecret": {"name": "store", "accessKeyIdKey": "id"},
    "port": 9000,
    "to": THERE,
}


def environment(objects: list[Object], name: str) -> dict[str, Any]:
    """Return the variables of a Deployment's container: values, or references to Secrets."""
    (container,) = one(objects, "Deployment", name)["spec"]["template"]["spec"]["containers"]
    names = [each["name"] for each in container["env"]]
    assert len(names) == len(set(names))
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in container["env"]}


def test_B15_operator_and_gateway_are_told_of_one_store_in_the_same_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    objects = render({"artifacts": STORE})
    told = [
        {
            name: value
            for name, value in environment(objects, deployment).items()
            if name.startswith(("AWS_", "CORRAL_ARTIFACTS_"))
        }
        for deployment in ("corral-operator", "corral-gateway")
    ]
    assert told[0] == told[1]
    assert told[0] == {
        "CORRAL_ARTIFACTS_URL": "s3://bucket/corral",
        "CORRAL_ARTIFACTS_TASK_SIZE": "1073741824",
        "AWS_ENDPOINT_URL": "https://s3.example.com:9000",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": {"secretKeyRef": {"name": "store", "key": "id"}},
        "AWS_SECRET_ACCESS_KEY": {"secretKeyRef": {"name": "store", "key": "secretAccessKey"}},
    }
    for name in ("CORRAL_ARTIFACTS_URL", "CORRAL_ARTIFACTS_TASK_SIZE"):
        monkeypatch.setenv(name, told[0][name])
    for settings in (OperatorSettings(), GatewaySettings(_env_file=None)):
        assert settings.artifacts_url == "s3://bucket/corral"
        assert settings.artifacts_task_size == 1 << 30


def test_B15_both_reach_the_store_and_no_sandbox_does() -> None:
    objects = render({"namespaces": ["a"], "artifacts": STORE})
    rule = {"ports": [{"protocol": "TCP", "port": 9000}], "to": THERE}
    for name in ("corral-operator", "corral-gateway"):
        assert one(objects, "NetworkPolicy", name)["spec"]["egress"][-1] == rule
    assert "egress" not in one(objects, "NetworkPolicy", "corral-sandbox")["spec"]
    bare = render({"namespaces": ["a"]})
    for name in ("corral-operator", "corral-gateway"):
        assert rule not in one(bare, "NetworkPolicy", name)["spec"]["egress"]


def test_B15_without_a_store_there_is_none_and_no_keys_are_asked_for() -> None:
    objects = render()
    for name in ("corral-operator", "corral-gateway"):
        told = environment(objects, name)
        assert told["CORRAL_ARTIFACTS_URL"] == ""
        assert not any(each.startswith("AWS_") for each in told)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"url": "s3://key:secret@bucket"}, "url"),
        ({"url": "artifacts"}, "url"),
        ({"url": "s3://bucket", "endpoint": "s3.example.com"}, "endpoint"),
        ({"url": "s3://bucket", "secretAccessKey": "x"}, "secretAccessKey"),
        ({"url": "s3://bucket", "taskBytes": 0}, "taskBytes"),
    ],
    ids=str,
)
def test_B15_wrong_values_are_refused_by_name(values: dict[str, Any], told: str) -> None:
    with pytest.raises(RenderError, match="specifications of the schema") as caught:
        render({"artifacts": values})
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"artifacts": {"credentialsSecret": {"name": "store"}}}, "artifacts.url"),
        (
            {"artifacts": STORE, "operator": {"extraEnv": {"AWS_ACCESS_KEY_ID": "x"}}},
            "operator.extraEnv.AWS_ACCESS_KEY_ID",
        ),
        (
            {"artifacts": STORE, "gateway": {"extraEnv": {"AWS_ENDPOINT_URL": "x"}}},
            "gateway.extraEnv.AWS_ENDPOINT_URL",
        ),
    ],
    ids=["no store", "a key in a value", "twice"],
)
def test_B15_what_contradicts_itself_is_refused(values: dict[str, Any], told: str) -> None:
    with pytest.raises(RenderError, match=told):
        render(values)
