"""The agent of one node: watches the API and keeps the node's routes and packet filter as they should be."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

from rig.agent import policies
from rig.agent.api import Server, Watched
from rig.agent.pod_network import Node, conflist, masquerade, routes
from rig.agent.policies import Pod
from rig.agent.registrations import Registrations

_CREDENTIALS = Path("/etc/corral-rig/api.json")
_CONFLIST = Path("/etc/cni/net.d/10-corral-rig.conflist")
# Changes come in bursts; this long a burst is gathered before the rules are made once for all of it.
_GATHER_SECONDS = 0.01
# Applied again although nothing changed, in case a rule or a route was taken away behind the agent's back.
_AGAIN_SECONDS = 30.0
# How long a new pod may be unknown to the agent's own watch.
_UNKNOWN_SECONDS = 5.0


class Agent:
    """Decisions are in `policies` and `pod_network`; this has the effects."""

    def __init__(self, server: Server, name: str) -> None:
        self._name = name
        self._changed = threading.Event()
        self._applied = threading.Condition()
        self._generation = 0
        self._last: dict[str, object] = {}
        self._wrong = False
        changed = self._changed.set
        self._nodes = Watched(server, "/api/v1/nodes", changed)
        self._namespaces = Watched(server, "/api/v1/namespaces", changed)
        self._pods = Watched(server, "/api/v1/pods", changed)
        self._policies = Watched(server, "/apis/networking.k8s.io/v1/networkpolicies", changed)
        switch = "/api/v1/namespaces/kube-system/configmaps"
        self._switch = Watched(server, switch, changed, fieldSelector="metadata.name=corral-rig")
        self._all = (self._nodes, self._namespaces, self._pods, self._policies, self._switch)
        self._registrations = Registrations(self._cover)

    def run(self) -> None:
        for watched in self._all:
            watched.complete.wait()
        while True:
            self._changed.clear()
            generation = self._generation + 1
            self._apply()
            with self._applied:
                self._generation = generation
                self._applied.notify_all()
            if not self._changed.wait(_AGAIN_SECONDS):
                self._last.clear()
            time.sleep(_GATHER_SECONDS)

    def _cover(self, uid: str) -> bool:
        """Wait until rules are in force that know of this pod; see `Registrations`."""
        deadline = time.monotonic() + _UNKNOWN_SECONDS
        while not any(item["metadata"]["uid"] == uid for item in self._pods.snapshot()):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        with self._applied:
            # The round that is under way may have looked before this pod was there; the one after it has not.
            wanted = self._generation + 2
            self._changed.set()
            return (
                self._applied.wait_for(lambda: self._reached(wanted), timeout=_UNKNOWN_SECONDS)
                and not self._wrong
            )

    def _reached(self, generation: int) -> bool:
        if self._generation < generation:
            self._changed.set()
        return self._generation >= generation

    def _apply(self) -> None:
        nodes = [node for item in self._nodes.snapshot() if (node := Node.parse(item))]
        own = next((node for node in nodes if node.name == self._name), None)
        if own is None:
            return
        self._route(routes(own, nodes))
        self._filter("masquerade", masquerade(own, nodes))
        self._filter("policies", self._rules() if self._is_enforcing() else policies.REMOVE)
        if self._last.get("conflist") != own:
            # Last, because with it the node becomes ready: renamed into place, for the kubelet may be reading.
            partial = _CONFLIST.with_suffix(".partial")
            partial.write_text(conflist(own), encoding="utf-8")
            partial.rename(_CONFLIST)
            self._last["conflist"] = own

    def _is_enforcing(self) -> bool:
        return any(item.get("data", {}).get("policies") == "on" for item in self._switch.snapshot())

    def _rules(self) -> str:
        items = self._pods.snapshot()
        self._registrations.forget_all_but({item["metadata"]["uid"] for item in items})
        told = self._registrations.addresses
        pods = [
            (item, pod) for item in items if (pod := Pod.parse(item, told.get(item["metadata"]["uid"], "")))
        ]
        local = [pod for item, pod in pods if item["spec"].get("nodeName") == self._name]
        namespaces = {
            item["metadata"]["name"]: item["metadata"].get("labels", {})
            for item in self._namespaces.snapshot()
        }
        return policies.render(local, [pod for _, pod in pods], namespaces, self._policies.snapshot())

    def _route(self, wanted: dict[str, str]) -> None:
        before = self._last.get("routes")
        if before == wanted:
            return
        for network, via in wanted.items():
            _run(["ip", "route", "replace", network, "via", via])
        if isinstance(before, dict):
            for network in before.keys() - wanted.keys():
                _run(["ip", "route", "delete", network])
        self._last["routes"] = wanted

    def _filter(self, name: str, rules: str) -> None:
        if self._last.get(name) == rules:
            return
        ok = _run(["nft", "-f", "-"], rules)
        if name == "policies":
            self._wrong = not ok
        if ok:
            self._last[name] = rules


def _run(command: list[str], stdin: str = "") -> bool:
    done = subprocess.run(command, input=stdin, text=True, capture_output=True, check=False, timeout=30)
    if done.returncode != 0:
        print(f"{' '.join(command)}: {done.stderr.strip()}\n{stdin}", file=sys.stderr, flush=True)
    return done.returncode == 0


def _end_all(failed: threading.ExceptHookArgs) -> None:
    """A watch that has died must not leave an agent that looks alive: systemd starts a new one."""
    traceback.print_exception(failed.exc_type, failed.exc_value, failed.exc_traceback)
    os._exit(1)


def main() -> None:
    if not _CREDENTIALS.exists():
        sys.exit(f"{_CREDENTIALS} is not there yet")
    threading.excepthook = _end_all
    Agent(Server.read(_CREDENTIALS), socket.gethostname()).run()


if __name__ == "__main__":
    main()
