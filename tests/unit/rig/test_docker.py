"""What the rig's Docker daemon is given to run with, and what is taken away after it."""

from typing import Any

from rig import firewall, oci_runtime

LACKED = "CAP_SYS_RESOURCE"


def config() -> dict[str, Any]:
    held = ["CAP_CHOWN", LACKED, "CAP_KILL"]
    capabilities: dict[str, Any] = {"bounding": list(held), "effective": list(held), "inheritable": None}
    process = {"capabilities": capabilities, "oomScoreAdj": -500, "args": ["true"]}
    return {"process": process}


def test_the_lacked_capability_is_taken_from_every_set_and_the_oom_score_with_it() -> None:
    changed = oci_runtime.without_capability(config())["process"]
    assert changed["capabilities"] == {
        "bounding": ["CAP_CHOWN", "CAP_KILL"],
        "effective": ["CAP_CHOWN", "CAP_KILL"],
        "inheritable": [],
    }
    assert "oomScoreAdj" not in changed


def test_an_execs_process_is_changed_as_a_bundles_is() -> None:
    changed = oci_runtime.without_capability(config()["process"])
    assert changed["capabilities"]["bounding"] == ["CAP_CHOWN", "CAP_KILL"]
    assert oci_runtime.without_capability({"args": ["true"]}) == {"args": ["true"]}


def test_the_firewall_loses_dockers_rules_and_keeps_all_others() -> None:
    saved = """\
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [1:2]
:DOCKER - [0:0]
:DOCKER-USER - [0:0]
-A INPUT -s 192.0.2.1/32 -j DROP
-A FORWARD -j DOCKER-USER
-A FORWARD -o br-0123456789ab -j ACCEPT
-A FORWARD -i docker0 -o docker0 -j ACCEPT
-A FORWARD -i br-lan -j ACCEPT
-A DOCKER-USER -j RETURN
COMMIT
"""
    assert (
        firewall.without_docker(saved, "ACCEPT")
        == """\
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [1:2]
-A INPUT -s 192.0.2.1/32 -j DROP
-A FORWARD -i br-lan -j ACCEPT
COMMIT
"""
    )
