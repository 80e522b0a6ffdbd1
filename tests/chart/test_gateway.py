"""S1, A11: the gateway of the chart: what it is told, what it may reach, who may reach it, and what it keeps."""

import json
from typing import Any

import pytest

from chart.rendering import Object, RenderError, of_kind, one, render
from chart.test_values import DEFAULTS
from corral.api import PermissionLevel
from corral_gateway.ending import LAST_SECONDS
from corral_gateway.settings import Settings

ISSUER = {
    "name": "corp",
    "issuer": "https://login.example.com",
    "audiences": ["corral"],
    "algorithms": ["RS256"],
    "jwksUrl": "https://login.example.com/keys",
}
SHARED = {
    "gateway": {
        "database": {"urlSecret": {"name": "db"}},
        "audit": {"signingKeySecret": {"name": "audit"}},
    }
}


def gateway(values: dict[str, Any] | None = None) -> Object:
    """Return the Deployment."""
    return one(render(values), "Deployment", "corral-gateway")


def environment(values: dict[str, Any]) -> dict[str, Any]:
    """Return the variables of its container: values, or references to Secrets."""
    (container,) = gateway(values)["spec"]["template"]["spec"]["containers"]
    names = [one["name"] for one in container["env"]]
    assert len(names) == len(set(names))
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in container["env"]}


def with_gateway(base: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"gateway": {**base.get("gateway", {}), **more}}


# --- what it is told ---


@pytest.mark.parametrize(
    "values",
    [
        {},
        {
            "gateway": {
                "grpc": {"tlsSecret": "cert"},
                "audit": {"signingKeySecret": {"name": "audit"}},
                "jwt": {"issuers": [ISSUER], "filesSecret": "issuers"},
                "liveOutput": True,
                "rateLimits": {"storeSecret": {"name": "valkey"}},
                "database": {"urlSecret": {"name": "db"}},
            },
            "artifacts": {"url": "s3://bucket/corral", "credentialsSecret": {"name": "s3"}, "region": "eu"},
        },
    ],
    ids=["defaults", "everything"],
)
def test_S1_every_variable_is_a_setting_of_the_gateway(values: dict[str, Any]) -> None:
    known = {str(field.alias or name).upper() for name, field in Settings.model_fields.items()}
    # What an S3 client reads by itself.
    told = {name for name in environment(values) if not name.startswith("AWS_")}
    assert told - known == set()


def test_S1_the_defaults_are_settings_that_the_gateway_takes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    for name, value in environment({}).items():
        monkeypatch.setenv(name, value)
    settings = Settings(_env_file=None)
    assert (settings.host, settings.port, settings.metrics_port) == ("0.0.0.0", 8000, 2113)
    assert settings.rate_limit_caller == Settings.model_fields["rate_limit_caller"].default
    assert settings.rate_limit_global == Settings.model_fields["rate_limit_global"].default
    assert settings.max_request_size == Settings.model_fields["max_request_size"].default
    assert settings.first_key is False
    assert (settings.executor, settings.namespace) == ("cluster", "corral")
    assert (settings.caller_namespaces, settings.watch_namespaces) == ({}, ("corral",))


def test_S1_issuers_and_the_store_reach_the_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        "gateway": {
            "jwt": {"issuers": [ISSUER]},
            "kubernetesAudiences": ["corral"],
            "corsOrigins": ["https://a.example.com", "https://b.example.com"],
        },
        "artifacts": {"url": "s3://bucket/corral"},
    }
    for name, value in environment(values).items():
        monkeypatch.setenv(name, value)
    settings = Settings(_env_file=None)
    assert [one.name for one in settings.jwt_issuers] == ["corp"]
    assert settings.artifacts_place == "s3://bucket/corral"
    told = environment(values)
    assert (told["CORRAL_KUBERNETES_TOKENS"], told["CORRAL_KUBERNETES_AUDIENCES"]) == ("true", "corral")
    assert told["CORRAL_TOOL_REGISTRATION"] == "true"
    off = environment({"gateway": {"toolRegistration": False}})
    assert off["CORRAL_TOOL_REGISTRATION"] == "false"
    assert told["CORS_ORIGINS"] == "https://a.example.com,https://b.example.com"
    # Not on its volume, which the operator does not see.
    assert environment({})["CORRAL_ARTIFACTS_URL"] == environment(SHARED)["CORRAL_ARTIFACTS_URL"] == ""


@pytest.mark.parametrize(
    ("policy", "blocked"),
    [
        ({}, "network,system,admin"),
        ({"permissions": ["read", "network"]}, "write,execute,system,admin"),
        ({"permissions": ["admin"], "blockedPermissions": ["network"]}, "network"),
    ],
    ids=str,
)
def test_A7_what_the_policy_grants_to_nobody_is_refused_at_the_door(
    policy: dict[str, Any], blocked: str
) -> None:
    found = environment({"policy": policy})["BLOCKED_PERMISSIONS"].split(",")
    order = [level.value for level in PermissionLevel]
    assert sorted(found, key=order.index) == sorted(blocked.split(","), key=order.index)


def test_S1_secrets_come_from_secrets_and_stand_in_no_value() -> None:
    values = {
        "gateway": {
            "database": {"urlSecret": {"name": "db", "key": "uri"}},
            "audit": {"signingKeySecret": {"name": "audit"}},
            "rateLimits": {"storeSecret": {"name": "valkey"}},
            "secretEnv": {"AGENT_API_KEY": {"secret": "first", "key": "token"}},
        }
    }
    found = environment(values)
    assert found["CORRAL_DATABASE_URL"] == {"secretKeyRef": {"name": "db", "key": "uri"}}
    assert found["CORRAL_RATE_LIMIT_URL"] == {"secretKeyRef": {"name": "valkey", "key": "url"}}
    assert found["AGENT_API_KEY"] == {"secretKeyRef": {"name": "first", "key": "token"}}


@pytest.mark.parametrize(
    "values",
    [
        {"extraEnv": {"PORT": "1"}},
        {"extraEnv": {"CORRAL_DATABASE_URL": "x"}, **SHARED["gateway"]},
        {"secretEnv": {"HOST": {"secret": "a", "key": "b"}}},
        {"extraEnv": {"DEBUG": "1"}, "secretEnv": {"DEBUG": {"secret": "a", "key": "b"}}},
    ],
    ids=str,
)
def test_S1_a_setting_is_not_set_twice(values: dict[str, Any]) -> None:
    with pytest.raises(RenderError, match=r"the chart sets it|set already"):
        render({"gateway": values})


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"gateway": {"taskNamespace": "team-{caller}"}}, r'needs namespaces \["\*"\]'),
        ({"gateway": {"taskNamespace": "other"}}, "other is not served"),
        (
            {"namespaces": ["*"], "gateway": {"taskNamespace": "team-{user}"}},
            "{caller} is all that may stand",
        ),
    ],
    ids=str,
)
def test_S1_a_namespace_that_is_not_served_is_refused(values: dict[str, Any], told: str) -> None:
    with pytest.raises(RenderError, match=rf"gateway\.(taskNamespace|callerNamespaces\.ann): .*{told}"):
        render(values)


def test_S1_tasks_of_callers_go_where_they_are_served() -> None:
    assert environment({})["CORRAL_NAMESPACE"] == "corral"
    assert environment({"namespaces": ["a", "b"]})["CORRAL_NAMESPACE"] == "a"
    each = {"namespaces": ["*"], "gateway": {"taskNamespace": "team-{caller}"}}
    assert environment(each)["CORRAL_NAMESPACE"] == "team-{caller}"
    assert environment(each)["CORRAL_WATCH_NAMESPACES"] == "*"
    mapped = {"namespaces": ["a", "b"], "gateway": {"callerNamespaces": {"ann": "b"}}}
    assert json.loads(environment(mapped)["CORRAL_CALLER_NAMESPACES"]) == {"ann": "b"}
    assert environment(mapped)["CORRAL_WATCH_NAMESPACES"] == "a,b"


# --- how many, and what they keep ---


@pytest.mark.parametrize("values", [{"replicas": 2}, {"autoscaling": {"enabled": True}}], ids=str)
def test_S1_several_without_a_database_in_common_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(
        RenderError, match=r"need a database in common; name a Secret .* gateway.database.urlSecret"
    ):
        render({"gateway": values})
    assert gateway(with_gateway(SHARED, **values))


def test_A8_gateways_with_one_database_need_one_key_for_their_audit() -> None:
    with pytest.raises(RenderError, match=r"gateway.audit.signingKeySecret.name: .* openssl genpkey"):
        render({"gateway": {"database": {"urlSecret": {"name": "db"}}}})


def test_S1_one_keeps_sqlite_on_a_claim_that_outlives_the_release() -> None:
    objects = render()
    claim = one(objects, "PersistentVolumeClaim", "corral-gateway-data")
    assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    deployment = one(objects, "Deployment", "corral-gateway")
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}
    volumes = {each["name"]: each for each in deployment["spec"]["template"]["spec"]["volumes"]}
    assert volumes["data"]["persistentVolumeClaim"] == {"claimName": "corral-gateway-data"}


def test_S1_several_keep_nothing_of_their_own_and_take_turns() -> None:
    objects = render(with_gateway(SHARED, replicas=3))
    assert of_kind(objects, "PersistentVolumeClaim") == []
    spec = one(objects, "Deployment", "corral-gateway")["spec"]
    assert (spec["replicas"], spec["strategy"]) == (
        3,
        {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
    )
    assert spec["template"]["spec"]["volumes"][0] == {"name": "data", "emptyDir": {}}
    (spread,) = spec["template"]["spec"]["topologySpreadConstraints"]
    assert spread["labelSelector"] == spec["selector"]
    budget = one(objects, "PodDisruptionBudget", "corral-gateway")["spec"]
    assert budget == {"maxUnavailable": 1, "selector": spec["selector"]}


def test_S1_a_claim_that_is_there_or_none_at_all() -> None:
    theirs = {"gateway": {"database": {"volume": {"existingClaim": "mine"}}}}
    assert gateway(theirs)["spec"]["template"]["spec"]["volumes"][0]["persistentVolumeClaim"] == {
        "claimName": "mine"
    }
    none = {"gateway": {"database": {"volume": {"enabled": False}}}}
    assert gateway(none)["spec"]["template"]["spec"]["volumes"][0] == {"name": "data", "emptyDir": {}}
    for values in (theirs, none):
        assert of_kind(render(values), "PersistentVolumeClaim") == []


def test_S1_an_autoscaler_has_the_number_of_replicas_to_itself() -> None:
    objects = render(with_gateway(SHARED, autoscaling={"enabled": True, "maxReplicas": 9}))
    assert "replicas" not in one(objects, "Deployment", "corral-gateway")["spec"]
    spec = one(objects, "HorizontalPodAutoscaler", "corral-gateway")["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 9)
    assert spec["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "corral-gateway"}


# --- its life ---


def test_B13_it_is_probed_where_it_listens_and_ends_gently() -> None:
    spec = gateway()["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert {port["name"]: port["containerPort"] for port in container["ports"]} == {
        "http": 8000,
        "grpc": 50051,
        "metrics": 2113,
    }
    for name in ("startupProbe", "livenessProbe"):
        assert container[name]["httpGet"] == {"path": "/health", "port": "http"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/ready", "port": "http"}


def test_B13_it_is_killed_no_sooner_than_it_can_have_ended() -> None:
    def seconds(**values: int) -> tuple[float, float, float]:
        spec = gateway(with_gateway({}, **values))["spec"]["template"]["spec"]
        settings = environment(with_gateway({}, **values))
        drain, grace = float(settings["CORRAL_DRAIN_SECONDS"]), float(settings["CORRAL_GRACE_SECONDS"])
        return drain, grace, spec["terminationGracePeriodSeconds"] - drain - grace

    assert seconds() == (5, Settings.model_fields["grace_seconds"].default, LAST_SECONDS)
    assert seconds(drainSeconds=0, graceSeconds=120) == (0, 120, LAST_SECONDS)


# --- who may reach it, and whom it ---


def test_M3_it_is_closed_but_for_what_it_does() -> None:
    spec = one(render(), "NetworkPolicy", "corral-gateway")["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert [[port["port"] for port in rule["ports"]] for rule in spec["ingress"]] == [
        [8000, 50051],
        [8000],
        [2113],
    ]
    test = {"app.kubernetes.io/name": "corral", "app.kubernetes.io/component": "gateway-test"}
    assert [rule["from"] for rule in spec["ingress"]] == [
        DEFAULTS["gateway"]["clients"],
        [{"podSelector": {"matchLabels": test}}],
        DEFAULTS["metrics"]["from"],
    ]
    assert [[port["port"] for port in rule["ports"]] for rule in spec["egress"]] == [[443, 6443], [53, 53]]


def test_M3_what_it_is_told_to_use_it_may_reach_and_nothing_else() -> None:
    there = [{"ipBlock": {"cidr": "10.1.0.0/16"}}]
    values = {
        "namespaces": ["a"],
        "metrics": {"from": []},
        "gateway": {
            "clients": [{"podSelector": {"matchLabels": {"app": "ingress"}}}],
            "liveOutput": True,
            "audit": {"signingKeySecret": {"name": "audit"}},
            "database": {"urlSecret": {"name": "db"}, "port": 6432, "to": there},
            "rateLimits": {"storeSecret": {"name": "valkey"}},
            "egress": [{"to": there, "ports": [{"protocol": "TCP", "port": 9000}]}],
        },
    }
    objects = render(values)
    spec = one(objects, "NetworkPolicy", "corral-gateway")["spec"]
    assert [rule["ports"][0]["port"] for rule in spec["ingress"]] == [8000, 8000]
    assert [[port["port"] for port in rule["ports"]] for rule in spec["egress"]] == [
        [443, 6443],
        [53, 53],
        [7070],
        [6432],
        [6379],
        [9000],
    ]
    assert [rule.get("to") for rule in spec["egress"][3:]] == [there, None, there]
    # Live output: sandboxes let it in, too.
    sandboxes = one(objects, "NetworkPolicy", "corral-sandbox")["spec"]
    let_in = [peer["podSelector"]["matchLabels"] for peer in sandboxes["ingress"][0]["from"]]
    pod = one(objects, "Deployment", "corral-gateway")["spec"]["template"]["metadata"]["labels"]
    assert any(labels.items() <= pod.items() for labels in let_in)
    closed = one(render({"namespaces": ["a"]}), "NetworkPolicy", "corral-sandbox")["spec"]
    assert len(closed["ingress"][0]["from"]) == 1
    operator = one(objects, "Deployment", "corral-operator")["spec"]["template"]["spec"]["containers"][0]
    (sources,) = [one["value"] for one in operator["env"] if one["name"] == "CORRAL_RUNNER_SOURCES"]
    assert "component=gateway" in json.loads(sources)[0]


def test_M3_its_account_alone_may_say_for_whom_a_task_runs() -> None:
    def writers(values: dict[str, Any]) -> str:
        return json.dumps(one(render(values), "ValidatingAdmissionPolicy", "corral-writers.corral.corral"))

    assert "system:serviceaccount:corral:corral-gateway" in writers({})
    named = {"gateway": {"serviceAccount": {"name": "door"}}}
    assert "system:serviceaccount:corral:door" in writers(named)
    assert one(render(named), "ServiceAccount", "door")


def test_S1_it_is_reached_by_its_service_an_ingress_or_a_route() -> None:
    values = {
        "gateway": {
            "ingress": {"enabled": True, "host": "corral.example.com", "tlsSecret": "cert"},
            "httpRoute": {"enabled": True, "parentRefs": [{"name": "public"}]},
        }
    }
    objects = render(values)
    service = one(objects, "Service", "corral-gateway")
    assert [(port["name"], port["port"]) for port in service["spec"]["ports"]] == [
        ("http", 8000),
        ("grpc", 50051),
    ]
    pod = one(objects, "Deployment", "corral-gateway")["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= pod.items()
    ingress = one(objects, "Ingress", "corral-gateway")["spec"]
    assert ingress["rules"][0]["host"] == "corral.example.com"
    assert ingress["tls"] == [{"secretName": "cert", "hosts": ["corral.example.com"]}]
    route = one(objects, "HTTPRoute", "corral-gateway")["spec"]
    assert route["parentRefs"] == [{"name": "public"}]
    assert route["rules"] == [{"backendRefs": [{"name": "corral-gateway", "port": 8000}]}]
    assert of_kind(render(), "Ingress") == of_kind(render(), "HTTPRoute") == []


def test_S1_helm_test_asks_the_gateway_with_a_key_where_there_is_one() -> None:
    def container(values: dict[str, Any]) -> Any:
        job = one(render(values), "Job", "corral-gateway-test")
        labels = job["spec"]["template"]["metadata"]["labels"]
        assert labels["app.kubernetes.io/component"] == "gateway-test"
        return job["spec"]["template"]["spec"]["containers"][0]

    assert "env" not in container({})
    assert container({})["command"][3:] == ["http://corral-gateway.corral.svc:8000", "180"]
    found = container({"test": {"gatewayKeySecret": {"name": "tester"}}})
    assert found["env"] == [
        {"name": "CORRAL_KEY", "valueFrom": {"secretKeyRef": {"name": "tester", "key": "key"}}}
    ]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"replica": 2}, "replica"),
        ({"database": {"url": "postgresql://"}}, "url"),
        ({"database": {"volume": {"size": "2 GB"}}}, "size"),
        ({"rateLimits": {"caller": "fast"}}, "caller"),
        ({"secretEnv": {"A": {"secret": "x"}}}, "secretEnv"),
        ({"secretEnv": {"A": "text"}}, "secretEnv"),
        ({"extraEnv": {"lower": "x"}}, "extraEnv"),
        ({"clients": [{}]}, "clients"),
        ({"corsOrigins": ["example.com/page"]}, "corsOrigins"),
        ({"toolRegistration": "yes"}, "toolRegistration"),
        ({"jwt": {"issuers": [{**ISSUER, "secret": "x" * 64}]}}, "issuers"),
        ({"artifactsUrl": "s3://bucket"}, "artifactsUrl"),
        ({"egress": [{"ports": [{"port": 0}]}]}, "egress"),
        ({"ingress": {"host": "a b"}}, "host"),
        ({"service": {"type": "Open"}}, "type"),
    ],
    ids=str,
)
def test_S1_wrong_values_are_refused_by_name(values: dict[str, Any], told: str) -> None:
    with pytest.raises(RenderError, match="specifications of the schema") as caught:
        render({"gateway": values})
    assert told in str(caught.value)
