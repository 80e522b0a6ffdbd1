"""The network policy, the resize patch, and what makes a waiting pod outdated."""

from typing import Any

import pytest

from corral.api import NetworkMode, PoolResources, Refill, SandboxPoolSpec
from corral.cluster.port import ObjectKey
from corral_operator.builders.network_policy import network_policy
from corral_operator.builders.resize import resize_patch
from corral_operator.builders.sandbox_pod import sandbox_pod
from corral_operator.builders.template import PodIdentity, pool_pod_spec, template_hash
from corral_operator.decisions.sizes import SandboxSize
from corral_operator.decisions.template import same_kind
from corral_operator.settings import Settings
from unit.operator.factories import MIB, POOL

SETTINGS = Settings()
IDENTITY = PodIdentity("small-abc", "aa", "bb")


def _peer(labels: dict[str, str]) -> dict[str, Any]:
    return {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "corral"}},
        "podSelector": {"matchLabels": labels},
    }


def test_M3_sandboxes_reach_nothing_and_only_the_operator_and_named_sources_reach_them() -> None:
    settings = Settings(runner_sources=("app.kubernetes.io/component=gateway,tier=front",))
    assert network_policy("team", settings) == {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {
            "name": "corral-sandbox",
            "namespace": "team",
            "labels": {"app.kubernetes.io/managed-by": "corral-operator"},
        },
        "spec": {
            "podSelector": {"matchLabels": {"corral.dev/sandbox": "true"}},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [
                {
                    "from": [
                        _peer(
                            {
                                "app.kubernetes.io/name": "corral",
                                "app.kubernetes.io/component": "operator",
                            }
                        ),
                        _peer({"app.kubernetes.io/component": "gateway", "tier": "front"}),
                    ],
                    "ports": [{"protocol": "TCP", "port": 7070}],
                }
            ],
        },
    }


@pytest.mark.parametrize("selector", ["", "gateway", "app=", "=gateway", "a=b,"])
def test_M3_a_source_that_would_match_everything_is_refused(selector: str) -> None:
    with pytest.raises(ValueError, match="runner_sources"):
        network_policy("team", Settings(runner_sources=(selector,)))


def test_B7_a_resize_names_the_whole_resources_of_exactly_one_pod() -> None:
    patch = resize_patch(
        ObjectKey("team", "small-abc", "u1"), SandboxSize(2.0, 1024 * MIB, 128 * MIB), SETTINGS
    )
    assert patch == {
        "metadata": {"uid": "u1"},
        "spec": {
            "containers": [
                {
                    "name": "sandbox",
                    "resources": {
                        "limits": {"cpu": "2", "memory": "1184Mi", "ephemeral-storage": "64Mi"},
                        "requests": {"cpu": "200m", "memory": "296Mi", "ephemeral-storage": "0"},
                    },
                    "resizePolicy": [
                        {"resourceName": "cpu", "restartPolicy": "NotRequired"},
                        {"resourceName": "memory", "restartPolicy": "NotRequired"},
                    ],
                }
            ]
        },
    }


@pytest.mark.parametrize("disk_mib", [128, 4096])
def test_B7_a_resize_changes_nothing_but_cpu_and_memory(disk_mib: int) -> None:
    small = SandboxPoolSpec(resources=PoolResources(disk=f"{disk_mib}Mi"))
    pod = sandbox_pod(pool_pod_spec(POOL, small, IDENTITY, SETTINGS), SETTINGS)
    before = pod["spec"]["containers"][0]
    larger = SandboxSize(4.0, 2048 * MIB, disk_mib * MIB)
    after = resize_patch(POOL, larger, SETTINGS)["spec"]["containers"][0]
    assert after["resizePolicy"] == before["resizePolicy"]
    for kind in ("limits", "requests"):
        assert after["resources"][kind].keys() == before["resources"][kind].keys()
        assert after["resources"][kind]["ephemeral-storage"] == before["resources"][kind]["ephemeral-storage"]


def test_M4_a_pools_pod_belongs_to_the_pool_and_says_what_it_is_made_from() -> None:
    spec = SandboxPoolSpec(image="mine:1", runtime_class_name="gvisor")
    made = pool_pod_spec(POOL, spec, IDENTITY, SETTINGS)
    metadata = sandbox_pod(made, SETTINGS)["metadata"]
    assert metadata == {
        "name": "small-abc",
        "namespace": "team",
        "labels": {
            "corral.dev/pool": "small",
            "corral.dev/template": template_hash(spec, SETTINGS),
            "app.kubernetes.io/managed-by": "corral-operator",
            "corral.dev/runner": "true",
            "corral.dev/sandbox": "true",
        },
        "ownerReferences": [
            {
                "apiVersion": "corral.dev/v1alpha1",
                "kind": "SandboxPool",
                "name": "small",
                "uid": "pool-uid",
                "controller": True,
            }
        ],
    }
    assert (made.image, made.runtime_class, made.active_deadline_seconds) == ("mine:1", "gvisor", None)


def test_M4_a_change_of_size_or_pace_of_a_pool_leaves_its_pods_as_they_are() -> None:
    before = template_hash(SandboxPoolSpec(), SETTINGS)
    after = SandboxPoolSpec(replicas=9, refill=Refill(per_second=1, burst=1))
    assert template_hash(after, Settings(sweep_seconds=1)) == before
    assert len(before) <= 63


@pytest.mark.parametrize(
    "changed",
    [
        SandboxPoolSpec(image="mine:2"),
        SandboxPoolSpec(runtime_class_name="gvisor"),
        SandboxPoolSpec(resources=PoolResources(memory="1Gi")),
        SandboxPoolSpec(resources=PoolResources(cpu="2")),
        SandboxPoolSpec(resources=PoolResources(disk="1Gi")),
        SandboxPoolSpec(network=NetworkMode.ALLOWLIST),
    ],
)
def test_M4_pods_of_another_kind_serve_the_pool_no_more(changed: SandboxPoolSpec) -> None:
    before, after = template_hash(SandboxPoolSpec(), SETTINGS), template_hash(changed, SETTINGS)
    assert before != after
    assert not same_kind(before, after)


@pytest.mark.parametrize(
    "settings",
    [
        Settings(sandbox_image="corral/sandbox:2"),
        Settings(host_users=False),
        Settings(linger_seconds=1),
        Settings(image_pull_policy="Always"),
    ],
)
def test_M4_after_an_upgrade_waiting_pods_are_outdated_but_still_serve(settings: Settings) -> None:
    before, after = template_hash(SandboxPoolSpec(), SETTINGS), template_hash(SandboxPoolSpec(), settings)
    assert before != after
    assert same_kind(before, after)
