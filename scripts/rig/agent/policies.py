"""NetworkPolicies as nftables rules: a pure function of the cluster's objects.

Each pod of this node that a policy isolates gets a chain per direction: what is allowed returns, the end drops. The
rules stand in the hook `forward`, for what pods say to each other and to the world, and in `input`, for what they
say to their own node; what the node itself says to its pods (the kubelet's probes) meets neither. Addresses are those
behind a Service, because kube-proxy's translation comes first. IPv4 only, as the rig's pod network is.

Semantics: https://kubernetes.io/docs/reference/kubernetes-api/policy-resources/network-policy-v1/
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rig.agent.selectors import matches

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

TABLE = "corral_rig_policies"
REMOVE = f"table ip {TABLE}\ndelete table ip {TABLE}\n"

_EVERYWHERE = ipaddress.IPv4Network("0.0.0.0/0")


@dataclass(frozen=True)
class Pod:
    """What the rules need of a pod that runs and has an address of its own."""

    namespace: str
    name: str
    uid: str
    address: str
    labels: Mapping[str, str] = field(hash=False)
    ports: tuple[tuple[str, str, int], ...] = ()
    """The named ports: name, protocol, number."""

    @classmethod
    def parse(cls, item: dict[str, Any], address: str = "") -> Pod | None:
        """A pod as the API tells it; None if policies do not concern it: it has ended, has no address yet, or has
        the node's network.

        Args:
            item: the Pod.
            address: the address if it is known already while the API does not tell it.
        """
        metadata, spec, status = item["metadata"], item.get("spec", {}), item.get("status", {})
        address = address or status.get("podIP", "")
        if not address or spec.get("hostNetwork") or status.get("phase") in ("Succeeded", "Failed"):
            return None
        # Restartable init containers (sidecars) may have ports that are spoken to.
        containers = [*spec.get("initContainers", ()), *spec.get("containers", ())]
        ports = tuple(
            (port["name"], port.get("protocol", "TCP"), port["containerPort"])
            for container in containers
            for port in container.get("ports", ())
            if port.get("name")
        )
        labels = metadata.get("labels", {})
        return cls(metadata["namespace"], metadata["name"], metadata["uid"], address, labels, ports)


@dataclass(frozen=True)
class Direction:
    """What tells the two directions of a policy apart: names in the policy, and which end of a packet is the peer."""

    kind: str
    rules: str
    peers: str
    own_field: str
    peer_field: str


INGRESS = Direction("Ingress", "ingress", "from", own_field="daddr", peer_field="saddr")
EGRESS = Direction("Egress", "egress", "to", own_field="saddr", peer_field="daddr")


def render(
    local: Iterable[Pod],
    pods: Iterable[Pod],
    namespaces: Mapping[str, Mapping[str, str]],
    policies: Iterable[Any],
) -> str:
    """The rules of one node, as one transaction for `nft -f`, which replaces those that were there.

    Args:
        local: the pods of this node.
        pods: all pods of the cluster, for these are what policies may allow.
        namespaces: labels by namespace.
        policies: NetworkPolicies as the API tells them.
    """
    everyone, given = sorted(pods, key=_order), sorted(policies, key=_policy_order)
    # Pods that may say and hear the same share a chain.
    chains: dict[tuple[str, ...], str] = {}
    jumps: dict[str, dict[str, str]] = {EGRESS.kind: {}, INGRESS.kind: {}}
    for pod in sorted(local, key=_order):
        for direction in (EGRESS, INGRESS):
            body = _chain(pod, direction, everyone, namespaces, given)
            if body is not None:
                name = chains.setdefault((direction.kind, *body), f"{direction.rules}_{len(chains)}")
                jumps[direction.kind][pod.address] = name
    return REMOVE + _table(chains, jumps)


def _table(chains: Mapping[tuple[str, ...], str], jumps: Mapping[str, Mapping[str, str]]) -> str:
    if not chains:
        return f"table ip {TABLE} {{\n}}\n"
    lines = [f"table ip {TABLE} {{"]
    for (_, *allowed), name in chains.items():
        lines += [f"  chain {name} {{", *(f"    {rule}" for rule in allowed), "    drop", "  }"]
    both = "ct state established,related accept"
    isolated = sorted({*jumps[EGRESS.kind], *jumps[INGRESS.kind]})
    # No policy stops a pod from reaching itself, through a Service for instance.
    itself = f"ip saddr . ip daddr {{ {', '.join(f'{ip} . {ip}' for ip in isolated)} }} accept"
    egress, ingress = (_dispatch(direction, jumps[direction.kind]) for direction in (EGRESS, INGRESS))
    for hook, rules in (("forward", [both, itself, *egress, *ingress]), ("input", [both, *egress])):
        lines += [f"  chain {hook} {{", f"    type filter hook {hook} priority filter; policy accept;"]
        lines += [*(f"    {rule}" for rule in rules), "  }"]
    return "\n".join([*lines, "}"]) + "\n"


def _dispatch(direction: Direction, jumps: Mapping[str, str]) -> list[str]:
    if not jumps:
        return []
    verdicts = ", ".join(f"{address} : jump {chain}" for address, chain in sorted(jumps.items()))
    return [f"ip {direction.own_field} vmap {{ {verdicts} }}"]


def _chain(
    pod: Pod,
    direction: Direction,
    pods: Iterable[Pod],
    namespaces: Mapping[str, Mapping[str, str]],
    policies: Iterable[dict[str, Any]],
) -> tuple[str, ...] | None:
    """What a pod's chain allows; None if no policy isolates the pod in this direction."""
    allowed: dict[str, None] = {}
    isolated = False
    for policy in policies:
        spec = policy["spec"]
        if direction.kind not in _types(spec) or policy["metadata"]["namespace"] != pod.namespace:
            continue
        if not matches(spec.get("podSelector") or {}, pod.labels):
            continue
        isolated = True
        for rule in spec.get(direction.rules) or ():
            peers = rule.get(direction.peers) or []
            hosts = [each for each in pods if not peers or _is_peer(each, peers, pod.namespace, namespaces)]
            for line in _allowances(pod, direction, rule, hosts):
                allowed[line] = None
    return tuple(allowed) if isolated else None


def _types(spec: dict[str, Any]) -> list[str]:
    """The server fills them in; this is its rule, for policies that have not been there."""
    return spec.get("policyTypes") or ["Ingress", *(["Egress"] if spec.get("egress") else [])]


def _is_peer(
    pod: Pod, peers: list[dict[str, Any]], own_namespace: str, namespaces: Mapping[str, Mapping[str, str]]
) -> bool:
    for peer in peers:
        if "ipBlock" in peer:
            continue
        if "namespaceSelector" in peer:
            labels = namespaces.get(pod.namespace)
            if labels is None or not matches(peer["namespaceSelector"], labels):
                continue
        elif pod.namespace != own_namespace:
            continue
        if matches(peer.get("podSelector") or {}, pod.labels):
            return True
    return False


def _allowances(pod: Pod, direction: Direction, rule: dict[str, Any], hosts: list[Pod]) -> list[str]:
    """The lines that one rule of a policy allows."""
    peers, ports = rule.get(direction.peers) or [], rule.get("ports") or []
    numbered = [match for port in ports if (match := _numbered(port)) is not None]
    named = [port for port in ports if isinstance(port.get("port"), str)]
    if direction is INGRESS:  # the name is one of the pod's own, the same for whoever asks
        numbered += [f"{protocol} dport {number}" for protocol, number in _named(pod, named)]
    lines = [
        " ".join(part for part in (host, port, "return") if part)
        for host in _matches(direction, peers, hosts)
        for port in (numbered if ports else [""])
    ]
    if direction is EGRESS and named:  # the name is one of the peer's
        for host in hosts:
            lines += [
                f"ip daddr {host.address} {proto} dport {number} return"
                for proto, number in _named(host, named)
            ]
    return lines


def _matches(direction: Direction, peers: list[dict[str, Any]], hosts: list[Pod]) -> list[str]:
    """What tells the peers of a rule from everybody else; one empty string for a rule without peers."""
    if not peers:
        return [""]
    told = [
        match
        for peer in peers
        if "ipBlock" in peer and (match := _block(direction, peer["ipBlock"])) is not None
    ]
    if hosts:
        told.append(f"ip {direction.peer_field} {{ {', '.join(sorted({host.address for host in hosts}))} }}")
    return told


def _block(direction: Direction, block: dict[str, Any]) -> str | None:
    network = ipaddress.ip_network(block["cidr"], strict=False)
    if not isinstance(network, ipaddress.IPv4Network):
        return None
    parts = [] if network == _EVERYWHERE else [f"ip {direction.peer_field} {network}"]
    # Collapsed, for nftables refuses a set whose intervals overlap.
    excepted = [ipaddress.IPv4Network(cidr, strict=False) for cidr in block.get("except") or ()]
    if excepted:
        listed = ", ".join(str(each) for each in ipaddress.collapse_addresses(excepted))
        parts.append(f"ip {direction.peer_field} != {{ {listed} }}")
    return " ".join(parts)


def _numbered(port: dict[str, Any]) -> str | None:
    """A port by number, a range of them, or a whole protocol; None for a port by name."""
    protocol, number = port.get("protocol", "TCP").lower(), port.get("port")
    if number is None:
        return f"meta l4proto {protocol}"
    if isinstance(number, str):
        return None
    last = port.get("endPort", number)
    return f"{protocol} dport {number}" if last == number else f"{protocol} dport {number}-{last}"


def _named(pod: Pod, ports: Iterable[dict[str, Any]]) -> list[tuple[str, int]]:
    wanted = {(port["port"], port.get("protocol", "TCP")) for port in ports}
    return [(protocol.lower(), number) for name, protocol, number in pod.ports if (name, protocol) in wanted]


def _order(pod: Pod) -> tuple[str, str]:
    return pod.namespace, pod.name


def _policy_order(policy: dict[str, Any]) -> tuple[str, str]:
    return policy["metadata"]["namespace"], policy["metadata"]["name"]
