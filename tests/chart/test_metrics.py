"""M9: alerts and the dashboard speak of metrics that the operator has, and come where they are wanted."""

import json
import re
from typing import Any

import pytest
from prometheus_client import REGISTRY

import corral_operator.metrics
from chart.rendering import of_kind, one, render

BOTH = ("monitoring.coreos.com/v1/ServiceMonitor", "monitoring.coreos.com/v1/PrometheusRule")


def known() -> dict[str, set[str]]:
    """Return the operator's metrics, by the name of each sample, with their labels."""
    assert corral_operator.metrics.__name__  # its import has registered them
    found: dict[str, set[str]] = {}
    for collector in set(REGISTRY._collector_to_names):
        name = str(getattr(collector, "_name", ""))
        if name.startswith("corral_operator_"):
            labels = set(getattr(collector, "_labelnames", ()))
            suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}
            for suffix in suffixes.get(getattr(collector, "_type", ""), ("",)):
                found[f"{name}{suffix}"] = labels | ({"le"} if suffix == "_bucket" else set())
    return found


def expressions() -> dict[str, str]:
    objects = render(apis=BOTH)
    (rules,) = of_kind(objects, "PrometheusRule")
    found = {rule["alert"]: rule["expr"] for group in rules["spec"]["groups"] for rule in group["rules"]}
    dashboard = json.loads(one(objects, "ConfigMap", "corral-dashboard")["data"]["corral.json"])
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            found[f"{panel['title']} {target['refId']}"] = target["expr"]
    return found


def test_M9_every_metric_named_is_one_that_the_operator_has() -> None:
    metrics = known()
    for title, expression in expressions().items():
        named = re.findall(r"\bcorral_operator_\w+", expression)
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
        assert asked | grouped <= set().union(*(metrics[name] for name in named)), title
        assert expression.count("(") == expression.count(")")


def test_M9_every_metric_is_on_the_dashboard() -> None:
    shown = {
        name
        for expression in expressions().values()
        for name in re.findall(r"\bcorral_operator_\w+", expression)
    }
    assert {re.sub("_(bucket|sum|count)$", "", name) for name in known()} == {
        re.sub("_bucket$", "", name) for name in shown
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
    ]
    for rule in found:
        assert set(rule["annotations"]) == {"summary", "action"}
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert rule["for"]


def test_M9_the_monitor_finds_the_metrics_service() -> None:
    objects = render(apis=BOTH)
    (monitor,) = of_kind(objects, "ServiceMonitor")
    service = one(objects, "Service", "corral-operator-metrics")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    deployment = one(objects, "Deployment", "corral-operator")
    assert service["spec"]["selector"].items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
    assert [port["name"] for port in service["spec"]["ports"]] == ["metrics"]


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
