"""Network policies as the rig's agent turns them into nftables rules.

What a text of rules does to a packet is told by `passes`, a small reading of the few forms the agent writes; that the
kernel reads them in the same way is shown by `tests/cluster`.
"""

import ipaddress
import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from rig.agent.policies import REMOVE, TABLE, Pod, render

NAMESPACES = {"red": {"team": "red"}, "blue": {"team": "blue", "trusted": "yes"}}
WORLD = "203.0.113.9"


def pod(name: str, address: str, namespace: str = "red", **labels: str) -> Pod:
    ports = (("web", "TCP", 8080),)
    return Pod(namespace, name, f"uid-{name}", address, {"app": name, **labels}, ports)


SERVER = pod("server", "10.244.1.2")
CLIENT = pod("client", "10.244.1.3")
STRANGER = pod("stranger", "10.244.2.4", namespace="blue")
PODS = [SERVER, CLIENT, STRANGER]


def policy(namespace: str = "red", name: str = "policy", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"namespace": namespace, "name": name}, "spec": {"podSelector": {}, **spec}}


def rules(*policies: dict[str, Any], local: list[Pod] | None = None) -> str:
    return render(PODS if local is None else local, PODS, NAMESPACES, policies)


def passes(
    text: str, source: str, target: str, *, port: int = 80, protocol: str = "tcp", hook: str = "forward"
) -> bool:
    """Whether the first packet of a connection gets through a hook of these rules."""
    chains = dict(re.findall(r"  chain (\w+) \{\n(.*?)\n  \}", text, flags=re.DOTALL))
    if hook not in chains:
        return True
    packet = {"saddr": source, "daddr": target}
    for rule in chains[hook].splitlines():
        if "ip saddr . ip daddr" in rule and f"{{ {source} . {target}" in rule.replace(", ", " } { "):
            return True
        if jump := re.match(r"\s+ip ([sd]addr) vmap \{ (.*) \}", rule):
            verdicts = dict(pair.split(" : jump ") for pair in jump[2].split(", "))
            chain = verdicts.get(packet[jump[1]])
            if chain and not any(
                _allows(line, packet, port, protocol) for line in chains[chain].splitlines()
            ):
                return False
    return True


def _allows(line: str, packet: dict[str, str], port: int, protocol: str) -> bool:
    if not line.endswith("return"):
        return False
    for field, unlike, told in re.findall(r"ip ([sd]addr) (!= )?(\{[^}]*\}|\S+)", line):
        networks = [ipaddress.ip_network(each) for each in told.strip("{ }").split(", ")]
        inside = any(ipaddress.ip_address(packet[field]) in network for network in networks)
        if inside == bool(unlike):
            return False
    if whole := re.search(r"meta l4proto (\w+)", line):
        return whole[1] == protocol
    if ports := re.search(r"(\w+) dport (\d+)(?:-(\d+))?", line):
        return ports[1] == protocol and int(ports[2]) <= port <= int(ports[3] or ports[2])
    return True


def test_without_policies_nothing_is_filtered_and_older_rules_go() -> None:
    assert rules() == f"{REMOVE}table ip {TABLE} {{\n}}\n"
    assert passes(rules(), CLIENT.address, SERVER.address)


def test_a_policy_without_rules_denies_its_direction_and_only_that() -> None:
    ingress, egress = rules(policy(policyTypes=["Ingress"])), rules(policy(policyTypes=["Egress"]))
    assert not passes(ingress, STRANGER.address, SERVER.address)
    assert passes(ingress, SERVER.address, STRANGER.address)
    assert passes(egress, STRANGER.address, SERVER.address)
    assert not passes(egress, SERVER.address, STRANGER.address)
    assert not passes(egress, SERVER.address, WORLD)


def test_a_policy_concerns_the_pods_it_selects_in_its_namespace_alone() -> None:
    text = rules(policy(podSelector={"matchLabels": {"app": "server"}}, policyTypes=["Egress"]))
    assert not passes(text, SERVER.address, WORLD)
    assert passes(text, CLIENT.address, WORLD)
    assert passes(text, STRANGER.address, WORLD)


def test_an_empty_rule_allows_everything() -> None:
    text = rules(policy(policyTypes=["Ingress", "Egress"], ingress=[{}], egress=[{}]))
    assert passes(text, STRANGER.address, SERVER.address)
    assert passes(text, SERVER.address, WORLD, port=5, protocol="udp")


def test_a_pod_selector_means_the_policys_own_namespace() -> None:
    text = rules(policy(policyTypes=["Ingress"], ingress=[{"from": [{"podSelector": {}}]}]))
    assert passes(text, CLIENT.address, SERVER.address)
    assert not passes(text, STRANGER.address, SERVER.address)


def test_a_namespace_selector_narrows_the_pod_selector_beside_it() -> None:
    both = {"namespaceSelector": {"matchLabels": {"trusted": "yes"}}}
    text = rules(policy(policyTypes=["Ingress"], ingress=[{"from": [both]}]))
    assert passes(text, STRANGER.address, SERVER.address)
    assert not passes(text, CLIENT.address, SERVER.address)
    narrowed = {**both, "podSelector": {"matchLabels": {"app": "somebody"}}}
    assert not passes(
        rules(policy(policyTypes=["Ingress"], ingress=[{"from": [narrowed]}])),
        STRANGER.address,
        SERVER.address,
    )


def test_selectors_that_select_nobody_allow_nobody() -> None:
    nobody = {"podSelector": {"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}}
    text = rules(policy(policyTypes=["Ingress"], ingress=[{"from": [nobody]}]))
    assert not passes(text, CLIENT.address, SERVER.address)
    assert not passes(text, WORLD, SERVER.address)


def test_ports_by_number_range_protocol_and_name() -> None:
    ports = [{"port": 443}, {"port": 9000, "endPort": 9002}, {"protocol": "UDP"}, {"port": "web"}]
    text = rules(policy(policyTypes=["Ingress"], ingress=[{"ports": ports}]), local=[SERVER])

    def reaches(port: int, protocol: str = "tcp") -> bool:
        return passes(text, CLIENT.address, SERVER.address, port=port, protocol=protocol)

    assert [port for port in (80, 443, 444, 8080, 8999, 9000, 9001, 9002, 9003) if reaches(port)] == [
        443,
        8080,
        9000,
        9001,
        9002,
    ]
    assert reaches(7, "udp")
    assert not reaches(443, "sctp")


def test_a_port_by_name_is_the_peers_when_a_pod_speaks_out() -> None:
    to_pods = rules(
        policy(policyTypes=["Egress"], egress=[{"to": [{"podSelector": {}}], "ports": [{"port": "web"}]}])
    )
    assert passes(to_pods, CLIENT.address, SERVER.address, port=8080)
    assert not passes(to_pods, CLIENT.address, SERVER.address, port=80)
    assert not passes(to_pods, CLIENT.address, STRANGER.address, port=8080)
    to_all = rules(policy(policyTypes=["Egress"], egress=[{"ports": [{"port": "web"}]}]))
    assert passes(to_all, CLIENT.address, STRANGER.address, port=8080)
    assert not passes(to_all, CLIENT.address, WORLD, port=8080)


def test_what_several_policies_allow_adds_up() -> None:
    first = policy(name="a", policyTypes=["Egress"], egress=[{"ports": [{"port": 53, "protocol": "UDP"}]}])
    second = policy(
        name="b", policyTypes=["Egress"], egress=[{"to": [{"ipBlock": {"cidr": "203.0.113.0/24"}}]}]
    )
    text = rules(first, second)
    assert passes(text, CLIENT.address, "192.0.2.1", port=53, protocol="udp")
    assert passes(text, CLIENT.address, WORLD, port=80)
    assert not passes(text, CLIENT.address, "192.0.2.1", port=80)


def test_a_pod_always_reaches_itself() -> None:
    text = rules(policy(policyTypes=["Ingress", "Egress"]))
    assert passes(text, SERVER.address, SERVER.address)
    assert passes(text, CLIENT.address, CLIENT.address)


def test_the_node_reaches_its_pods_but_they_do_not_reach_it_against_a_policy() -> None:
    text = rules(policy(policyTypes=["Ingress", "Egress"]))
    assert not passes(text, SERVER.address, "172.18.0.2", port=10250, hook="input")
    assert "hook output" not in text
    assert "ct state established,related accept" in text


def test_policy_types_left_out_are_those_the_rules_imply() -> None:
    assert passes(rules(policy(ingress=[])), SERVER.address, WORLD)
    assert not passes(rules(policy(ingress=[])), CLIENT.address, SERVER.address)
    assert not passes(rules(policy(egress=[{"to": [{"podSelector": {}}]}])), SERVER.address, WORLD)


def test_pods_of_other_nodes_are_peers_but_get_no_rules_here() -> None:
    text = rules(policy(policyTypes=["Ingress"], ingress=[{"from": [{"podSelector": {}}]}]), local=[SERVER])
    assert passes(text, CLIENT.address, SERVER.address)
    assert f"{CLIENT.address} : jump" not in text


def test_pods_with_the_same_rules_share_a_chain() -> None:
    text = rules(policy(policyTypes=["Egress"]), local=[SERVER, CLIENT])
    assert len(re.findall(r"chain egress_", text)) == 1


def test_ipv6_blocks_are_left_out_because_the_rigs_network_has_none() -> None:
    text = rules(policy(policyTypes=["Egress"], egress=[{"to": [{"ipBlock": {"cidr": "::/0"}}]}]))
    assert not passes(text, SERVER.address, WORLD)


addresses = st.integers(0, 2**32 - 1).map(lambda number: str(ipaddress.IPv4Address(number)))


@st.composite
def blocks(draw: st.DrawFn) -> dict[str, Any]:
    network = ipaddress.IPv4Network((draw(addresses), draw(st.integers(0, 30))), strict=False)
    inner = st.builds(
        lambda offset, length: str(
            ipaddress.IPv4Network(
                (
                    int(network.network_address) + offset % network.num_addresses,
                    max(length, network.prefixlen),
                ),
                strict=False,
            )
        ),
        st.integers(0, 2**32 - 1),
        st.integers(0, 32),
    )
    return {"cidr": str(network), "except": draw(st.lists(inner, max_size=4))}


@given(block=blocks(), peer=addresses)
def test_a_block_allows_exactly_what_is_in_it_and_not_excepted(block: dict[str, Any], peer: str) -> None:
    text = rules(policy(policyTypes=["Egress"], egress=[{"to": [{"ipBlock": block}]}]), local=[SERVER])
    address = ipaddress.ip_address(peer)
    excepted = any(address in ipaddress.ip_network(each) for each in block["except"])
    allowed = address in ipaddress.ip_network(block["cidr"]) and not excepted
    assert passes(text, SERVER.address, peer) == (allowed or peer == SERVER.address)


@given(block=blocks())
def test_no_set_has_intervals_that_overlap(block: dict[str, Any]) -> None:
    text = rules(policy(policyTypes=["Ingress"], ingress=[{"from": [{"ipBlock": block}]}]), local=[SERVER])
    for told in re.findall(r"!= \{ (.*?) \}", text):
        networks = [ipaddress.ip_network(each) for each in told.split(", ")]
        assert not any(a.overlaps(b) for i, a in enumerate(networks) for b in networks[i + 1 :])


def test_pods_that_have_ended_or_have_the_nodes_network_are_none_of_the_rules_business() -> None:
    item = {
        "metadata": {"namespace": "red", "name": "x", "uid": "u", "labels": {"a": "b"}},
        "spec": {"containers": [{"ports": [{"name": "web", "containerPort": 80}, {"containerPort": 81}]}]},
        "status": {"podIP": "10.0.0.1", "phase": "Running"},
    }
    assert Pod.parse(item) == Pod("red", "x", "u", "10.0.0.1", {"a": "b"}, (("web", "TCP", 80),))
    assert Pod.parse({**item, "status": {"phase": "Succeeded", "podIP": "10.0.0.1"}}) is None
    assert Pod.parse({**item, "spec": {"hostNetwork": True}}) is None
    assert Pod.parse({**item, "status": {}}) is None
    early = Pod.parse({**item, "status": {}}, "10.0.0.7")
    assert early is not None
    assert early.address == "10.0.0.7"
