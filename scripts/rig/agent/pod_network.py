"""The pod network: each node hands out addresses of its own podCIDR and knows the way to those of the others."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

_TABLE = "corral_rig_masquerade"


@dataclass(frozen=True)
class Node:
    """What the network needs of a node."""

    name: str
    address: str
    pod_cidr: str

    @classmethod
    def parse(cls, item: dict[str, Any]) -> Node | None:
        """A node as the API tells it; None if it has no network yet, or is one of kwok's, which are not there."""
        metadata, cidr = item["metadata"], item.get("spec", {}).get("podCIDR", "")
        if "kwok.x-k8s.io/node" in metadata.get("annotations", {}) or ":" in cidr:
            return None
        for address in item.get("status", {}).get("addresses", ()):
            if address["type"] == "InternalIP" and cidr:
                return cls(metadata["name"], address["address"], cidr)
        return None


def conflist(own: Node) -> str:
    """The CNI configuration of a node; the last plugin is the rig's own and tells the agent of each pod."""
    ipam = {
        "type": "host-local",
        # Gone after a restart of the node, as the pods are.
        "dataDir": "/run/cni-ipam-state",
        "routes": [{"dst": "0.0.0.0/0"}],
        "ranges": [[{"subnet": own.pod_cidr}]],
    }
    plugins = [
        {"type": "ptp", "ipMasq": False, "ipam": ipam},
        {"type": "portmap", "capabilities": {"portMappings": True}},
        {"type": "corral-rig"},
    ]
    return json.dumps({"cniVersion": "0.4.0", "name": "corral-rig", "plugins": plugins}, indent=2)


def routes(own: Node, nodes: Iterable[Node]) -> dict[str, str]:
    """The ways to the other nodes' pods: from podCIDR to the node's address."""
    return {node.pod_cidr: node.address for node in nodes if node.name != own.name}


def masquerade(own: Node, nodes: Iterable[Node]) -> str:
    """Nftables rules that let pods speak to the world outside the cluster under their node's address."""
    inside = ", ".join(sorted({node.pod_cidr for node in nodes} | {own.pod_cidr}))
    rule = f'ip saddr {own.pod_cidr} ip daddr != {{ {inside} }} oifname != "veth*" masquerade'
    return (
        f"table ip {_TABLE}\ndelete table ip {_TABLE}\n"
        f"table ip {_TABLE} {{\n  chain postrouting {{\n"
        f"    type nat hook postrouting priority srcnat; policy accept;\n    {rule}\n  }}\n}}\n"
    )
