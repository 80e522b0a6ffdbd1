"""The pod network of the rig's own nodes."""

import json
from typing import Any

from rig.agent.pod_network import Node, conflist, masquerade, routes

OWN = Node("one", "172.18.0.2", "10.244.0.0/24")
OTHER = Node("two", "172.18.0.3", "10.244.1.0/24")


def item(**metadata: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "two", **metadata},
        "spec": {"podCIDR": "10.244.1.0/24"},
        "status": {
            "addresses": [
                {"type": "Hostname", "address": "two"},
                {"type": "InternalIP", "address": "172.18.0.3"},
            ]
        },
    }


def test_a_node_is_known_by_its_internal_address_and_its_pods_network() -> None:
    assert Node.parse(item()) == OTHER


def test_nodes_that_have_no_network_are_left_out() -> None:
    assert Node.parse({**item(), "spec": {}}) is None
    assert Node.parse({**item(), "status": {}}) is None
    assert Node.parse(item(annotations={"kwok.x-k8s.io/node": "fake"})) is None


def test_each_node_knows_the_way_to_all_others() -> None:
    assert routes(OWN, [OWN, OTHER]) == {"10.244.1.0/24": "172.18.0.3"}


def test_pods_get_addresses_of_their_own_node_and_the_agent_hears_of_each() -> None:
    told = json.loads(conflist(OWN))
    assert told["plugins"][0]["ipam"]["ranges"] == [[{"subnet": "10.244.0.0/24"}]]
    assert [plugin["type"] for plugin in told["plugins"]] == ["ptp", "portmap", "corral-rig"]


def test_only_what_leaves_the_cluster_gets_the_nodes_address() -> None:
    text = masquerade(OWN, [OTHER, OWN])
    assert "ip saddr 10.244.0.0/24 ip daddr != { 10.244.0.0/24, 10.244.1.0/24 }" in text
