"""Turning the enforcement of network policies on and off, and knowing that it has happened on every node."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rig.agent.policies import TABLE
from rig.errors import RigError
from rig.progress import say
from rig.shell import succeeds

if TYPE_CHECKING:
    from rig.kubectl import Kubectl

_SECONDS = 30

_CONFIG = """\
apiVersion: v1
kind: ConfigMap
metadata: {{name: corral-rig, namespace: kube-system}}
data: {{policies: "{state}"}}
"""


def turn(kubectl: Kubectl, nodes: list[str], *, on: bool) -> None:
    """Tell the agents, and wait until each node's packet filter has, or no longer has, the policies' table."""
    state = "on" if on else "off"
    kubectl.apply(_CONFIG.format(state=state))
    deadline = time.monotonic() + _SECONDS
    waiting = nodes
    while waiting:
        if time.monotonic() > deadline:
            raise RigError(
                f"network policies are not {state} on {', '.join(waiting)}",
                f"See `docker exec {waiting[0]} journalctl --no-pager -u corral-rig-agent`.",
            )
        time.sleep(0.1)
        waiting = [node for node in waiting if _has_table(node) != on]
    say(f"network policies are {'enforced' if on else 'not enforced'}")


def _has_table(node: str) -> bool:
    return succeeds(["docker", "exec", node, "nft", "list", "table", "ip", TABLE])
