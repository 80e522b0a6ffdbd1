"""M1, M11: what the repository shows is what a person gets: every sample, and what kubectl shows of it."""

import re
from pathlib import Path

import pytest

from cluster.tenant import Tenant, main_of, reason_of
from corral.api import AgentTask, load_manifests
from eventually import eventually

SAMPLES = Path(__file__).resolve().parents[2] / "k8s/samples"
FILES = sorted(SAMPLES.rglob("*.yaml"))


@pytest.fixture(scope="module")
def sampled(new_tenant: object) -> Tenant:
    """Return a namespace where a person has applied all the samples."""
    assert callable(new_tenant)
    tenant = new_tenant()
    assert isinstance(tenant, Tenant)
    _ = tenant.tasks, tenant.pods
    tenant.kubectl("apply", "--recursive", "-f", str(SAMPLES))
    return tenant


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SAMPLES))[:-5])
def test_M1_sample_ends_as_it_says(sampled: Tenant, path: Path) -> None:
    for manifest in load_manifests(path):
        task = manifest.resource
        if isinstance(task, AgentTask):
            expected = (task.metadata.annotations or {}).get("corral.dev/expected-reason", "Completed")
            ended = sampled.ended(task.metadata.name or "")
            assert reason_of(ended) == expected, ended["status"]
            for execution in ended["status"]["executions"]:
                assert execution.get("usage") or execution["reason"] == "InvalidArguments"


def test_M1_samples_leave_no_pod_behind(sampled: Tenant) -> None:
    sampled.tasks.until(
        lambda seen: all((t.get("status") or {}).get("completionTime") for t in seen.now.values())
    )
    sampled.no_pod_left()


def test_M1_kubectl_get_at_shows_tool_phase_reason_and_age(sampled: Tenant) -> None:
    sampled.ended("calculator")
    sampled.ended("memory")
    header, *rows = sampled.kubectl("get", "at").splitlines()
    assert header.split() == ["NAME", "TOOL", "PHASE", "REASON", "AGE"]
    shown = {row.split()[0]: row.split()[1:] for row in rows}
    assert shown["calculator"][:3] == ["calculator", "Succeeded", "Completed"]
    assert shown["memory"][:3] == ["python", "Failed", "OutOfMemory"]
    assert re.fullmatch(r"\d+[smh](\d+s)?", shown["calculator"][3])
    assert "calculator" in sampled.kubectl("get", "all")


def test_M1_kubectl_wait_returns_when_the_task_has_ended(tenant: Tenant) -> None:
    tenant.kubectl("apply", "-f", str(SAMPLES / "01-calculator.yaml"))
    tenant.kubectl("wait", "--for=jsonpath={.status.reason}=Completed", "at/calculator", "--timeout=90s")
    tenant.kubectl("wait", "--for=condition=Finished", "at/calculator", "--timeout=90s")
    result = tenant.kubectl("get", "at", "calculator", "-o", "jsonpath={.status.executions[0].result}")
    assert result == "100"


def test_M1_kubectl_describe_reads_like_an_explanation(sampled: Tenant) -> None:
    sampled.ended("memory")
    sampled.noted("memory", "OutOfMemory")
    text = sampled.kubectl("describe", "at", "memory")
    for words in (
        "Reason:", "OutOfMemory", "Accepted", "Started", "Finished", "SandboxAssigned", "Events:", "Enforced By", "64",
    ):  # fmt: skip
        assert words in text, text
    assert re.search(r"Warning\s+OutOfMemory\s+\S+.*corral\.dev/operator\s+.*memory", text), text


def test_M1_a_namespace_and_a_task_in_one_apply(tenant: Tenant) -> None:
    """A new namespace's service account comes a moment after it, and a task may be faster."""
    names = [f"early-{n}" for n in range(3)]
    for name in names:
        tenant.start("calculator", name=name, arguments={"expression": "1"})
    assert [reason_of(task) for task in tenant.all_ended(names)] == ["Completed"] * 3


def test_B2_what_an_outcome_was_is_said_everywhere(sampled: Tenant) -> None:
    task = sampled.ended("timeout")
    status, execution = task["status"], main_of(task)
    assert status["reason"] == execution["reason"] == "DeadlineExceeded"
    assert status["phase"] == execution["phase"] == "Failed"
    assert execution["limit"]["name"] == "timeout"
    assert execution["limit"]["value"] == 1
    assert execution["output"]["stdout"] == "started\n"
    assert status["message"] == execution["message"]
    eventually(lambda: sampled.notes("timeout"))
    assert {why for why, _ in sampled.notes("timeout")} == {"DeadlineExceeded"}
