"""M9: Prometheus itself reads every rule and every expression of the dashboards, and alerts fire when they should."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from chart.programs import program
from chart.rendering import of_kind, one, render

APIS = ("monitoring.coreos.com/v1/ServiceMonitor", "monitoring.coreos.com/v1/PrometheusRule")
CASES = Path(__file__).with_name("alerts.yaml")


def promtool(*arguments: str | Path, cwd: Path) -> str:
    """Run promtool and return what it prints.

    Raises:
        AssertionError: it is not content.
    """
    done = subprocess.run(
        [program("promtool"), *arguments], cwd=cwd, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def rules() -> dict[str, Any]:
    (found,) = of_kind(render(apis=APIS), "PrometheusRule")
    spec: dict[str, Any] = found["spec"]
    return spec


def test_M9_prometheus_takes_the_rules(rules: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules))
    count = sum(len(group["rules"]) for group in rules["groups"])
    told = promtool("check", "rules", "--lint=all", "--lint-fatal", "rules.yaml", cwd=tmp_path)
    assert f"SUCCESS: {count} rules found" in told


@pytest.mark.parametrize("file", ["corral.json", "corral-gateway.json"])
def test_M9_prometheus_takes_every_expression_of_the_dashboards(file: str, tmp_path: Path) -> None:
    dashboard = json.loads(one(render(), "ConfigMap", "corral-dashboard")["data"][file])
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    # What Grafana puts in; a recording rule is the shape in which promtool checks an expression.
    filled = [text.replace("$__rate_interval", "5m").replace("$namespace", ".*") for text in expressions]
    records = [{"record": f"panel:{number}", "expr": text} for number, text in enumerate(filled)]
    (tmp_path / "rules.yaml").write_text(
        yaml.safe_dump({"groups": [{"name": "dashboard", "rules": records}]})
    )
    assert f"SUCCESS: {len(records)} rules found" in promtool("check", "rules", "rules.yaml", cwd=tmp_path)


def test_M9_each_alert_fires_when_it_should_and_not_before(rules: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules))
    (tmp_path / "cases.yaml").write_text(CASES.read_text())
    assert "SUCCESS" in promtool("test", "rules", "cases.yaml", cwd=tmp_path)
    asked = [one for case in yaml.safe_load(CASES.read_text())["tests"] for one in case["alert_rule_test"]]
    named = {rule["alert"] for group in rules["groups"] for rule in group["rules"]}
    assert {one["alertname"] for one in asked if one.get("exp_alerts")} == named
    assert {one["alertname"] for one in asked if not one.get("exp_alerts")} == named


def test_M9_a_rule_that_never_fires_is_found(rules: dict[str, Any], tmp_path: Path) -> None:
    broken = json.loads(json.dumps(rules).replace("corral_gateway_breakers", "corral_gateway_breaker"))
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(broken))
    (tmp_path / "cases.yaml").write_text(CASES.read_text())
    with pytest.raises(AssertionError, match="CorralBreakerOpen"):
        promtool("test", "rules", "cases.yaml", cwd=tmp_path)
