"""The cluster's configuration for kind."""

import pytest
import yaml
from rig import kind_config
from rig.node_image import NodeImage

BASE = kind_config.BASE.read_text(encoding="utf-8")


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_every_node_has_the_image_and_there_is_one_control_plane(workers: int) -> None:
    told = yaml.safe_load(kind_config.render(BASE, workers=workers, image=NodeImage("node:1", own=True)))
    assert [node["role"] for node in told["nodes"]] == ["control-plane", *["worker"] * workers]
    assert {node["image"] for node in told["nodes"]} == {"node:1"}


def test_kinds_own_network_stays_out_only_where_the_rigs_stands_in() -> None:
    own = yaml.safe_load(kind_config.render(BASE, workers=1, image=NodeImage("node:1", own=True)))
    kinds = yaml.safe_load(kind_config.render(BASE, workers=1, image=NodeImage("kindest/node:v1", own=False)))
    assert own["networking"] == {"disableDefaultCNI": True}
    assert "networking" not in kinds


def test_kubernetes_is_told_to_start_on_a_host_with_cgroup_v1() -> None:
    told = yaml.safe_load(kind_config.render(BASE, workers=0, image=NodeImage("node:1", own=True)))
    (patch,) = told["kubeadmConfigPatches"]
    assert yaml.safe_load(patch) == {
        "kind": "KubeletConfiguration",
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "failCgroupV1": False,
    }
