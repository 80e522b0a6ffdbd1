"""M9: alerts and dashboards speak of metrics that operator and gateway have, and come where they are wanted."""

import json
import re
from typing import Any

import pytest
from prometheus_client import REGISTRY

import corral_operator.metrics
from chart.rendering import of_kind, one, render
from corral_gateway.metrics import Metrics

BOTH = ("monitoring.coreos.com/v1/ServiceMonitor", "monitoring.coreos.com/v1/PrometheusRule")
_NAMES = r"\b(?:corral|agent_core|process)_\w+"
#: What Prometheus itself adds to each sample, as the monitors of the chart have it.
_TARGET = {"instance", "pod"}


def known() -> dict[str, set[str]]:
    """Return the metrics of operator and gateway, by the name of each sample, with their labels."""
    assert corral_operator.metrics.__name__  # its import has registered them
    found: dict[str, set[str]] = {
        "corral_build_info": {"component", "version"},
        "process_resident_memory_bytes": set(),
        "process_cpu_seconds_total": set(),
    }
    for collector in {*REGISTRY._collector_to_names, *Metrics().registry._collector_to_names}:
        name = str(getattr(collector, "_name", ""))
        if name.startswith(("corral_operator_", "corral_gateway_", "agent_core_")):
            labels = set(getattr(collector, "_labelnames", ()))
            suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}
            for suffix in suffixes.get(getattr(collector, "_type", ""), ("",)):
                found[f"{name}{suffix}"] = labels | ({"le"} if suffix == "_bucket" else set())
    return found


def expressions() -> dict[str, str]:
    objects = render(apis=BOTH)
    (rules,) = of_kind(objects, "PrometheusRule")
    found = {rule["alert"]: rule["expr"] for group in rules["spec"]["groups"] for rule in group["rules"]}
    for file, text in one(objects, "ConfigMap", "corral-dashboard")["data"].items():
        for panel in json.loads(text)["panels"]:
            for target in panel["targets"]:
                found[f"{file} {panel['title']} {target['refId']}"] = target["expr"]
    return found


def test_M9_every_metric_named_is_one_that_operator_or_gateway_has() -> None:
    metrics = known()
    for title, expression in expressions().items():
        named = re.findall(_NAMES, expression)
        assert named, title
        assert set(named) <= set(metrics), title
        asked = {
            label
            for part in re.findall(r"\{([^}]*)\}", expression)
            for label in re.findall(r"(\w+)\s*[=!]", part)
        }
        grouped = {
            label.strip()
            for part in re.findall(r"\b(?:by|ignoring) \(([^)]*)\)", expression)
            for label in part.split(",")
        } | {
            label.strip()
            for part in re.findall(r"\bignoring\(([^)]*)\)", expression)
            for label in part.split(",")
        }
        assert asked | grouped <= set().union(_TARGET, *(metrics[name] for name in named)), title
        assert expression.count("(") == expression.count(")")


def test_M9_every_metric_is_on_a_dashboard() -> None:
    shown = {name for expression in expressions().values() for name in re.findall(_NAMES, expression)}
    assert {re.sub("_(bucket|sum|count)$", "", name) for name in known()} == {
        re.sub("_(bucket|count)$", "", name) for name in shown
    }


def test_M9_the_alerts_are_these_and_say_what_to_do() -> None:
    (rules,) = of_kind(render(apis=BOTH), "PrometheusRule")
    found = [rule for group in rules["spec"]["groups"] for rule in group["rules"]]
    assert [rule["alert"] for rule in found] == [
        "CorralNoLeader",
        "CorralSandboxesFail",
        "CorralPoolEmpty",
        "CorralQueueOld",
        "CorralNetworkPolicyNotEnforced",
        "CorralApiErrors",
        "CorralReconcileErrors",
        "CorralGatewayDown",
        "CorralGatewayErrors",
        "CorralGatewayRefuses",
        "CorralGatewayStrangers",
        "CorralGatewaySlow",
        "CorralGatewaySandboxesFail",
        "CorralGatewayLostCluster",
        "CorralAuditFails",
        "CorralRateLimitsNotShared",
        "CorralBreakerOpen",
    ]
    for rule in found:
        assert set(rule["annotations"]) == {"summary", "action"}
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert rule["for"]


@pytest.mark.parametrize("name", ["corral-operator", "corral-gateway"])
def test_M9_the_monitor_finds_the_metrics_service_and_no_other(name: str) -> None:
    objects = render(apis=BOTH)
    monitor = one(objects, "ServiceMonitor", name)
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    (service,) = [
        each for each in of_kind(objects, "Service") if wanted <= each["metadata"]["labels"].items()
    ]
    assert service["metadata"]["name"] == f"{name}-metrics"
    deployment = one(objects, "Deployment", name)
    assert service["spec"]["selector"].items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
    assert [port["name"] for port in service["spec"]["ports"]] == ["metrics"]


def test_M9_without_a_gateway_nothing_speaks_of_one() -> None:
    objects = render({"gateway": {"enabled": False}}, apis=BOTH)
    assert "gateway" not in json.dumps(of_kind(objects, "PrometheusRule")).lower()
    assert set(one(objects, "ConfigMap", "corral-dashboard")["data"]) == {"corral.json"}


@pytest.mark.parametrize(
    ("enabled", "apis", "there"),
    [("auto", (), False), ("auto", BOTH, True), (True, (), True), (False, BOTH, False)],
)
def test_M9_what_needs_the_prometheus_operator_comes_with_it(
    enabled: Any, apis: tuple[str, ...], *, there: bool
) -> None:
    values = {"metrics": {"serviceMonitor": {"enabled": enabled}, "rules": {"enabled": enabled}}}
    objects = render(values, apis=apis)
    assert bool(of_kind(objects, "ServiceMonitor")) is there
    assert bool(of_kind(objects, "PrometheusRule")) is there
