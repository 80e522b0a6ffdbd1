"""A release of the chart with a gateway, in a namespace of its own, and ways to reach it."""

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from chart.cluster import helm, kubectl
from chart.programs import program
from chart.rendering import CHART
from eventually import eventually

_START_SECONDS = 240
_IMAGES = {
    "image": ("CORRAL_OPERATOR_IMAGE", "corral/operator:dev"),
    "sandbox": ("CORRAL_SANDBOX_IMAGE", "corral/sandbox:dev"),
    "gateway": ("CORRAL_GATEWAY_IMAGE", "corral/gateway:dev"),
}


def images() -> dict[str, Any]:
    """Return the images to install, as values; not every cluster provides volumes."""

    def parts(name: str) -> dict[str, str]:
        variable, default = _IMAGES[name]
        repository, _, tag = os.environ.get(variable, default).rpartition(":")
        return {"repository": repository, "tag": tag}

    return {
        "image": parts("image"),
        "sandbox": {"image": parts("sandbox")},
        "gateway": {"image": parts("gateway"), "database": {"volume": {"enabled": False}}},
    }


def image_of_python() -> str:
    """Return an image that every node has and that has Python."""
    variable, default = _IMAGES["image"]
    return os.environ.get(variable, default)


class Release:
    """The release, its gateway ready."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace

    def install(
        self, *, upgrade: bool = False, artifacts: dict[str, Any] | None = None, **gateway: Any
    ) -> None:
        """Install it, or upgrade it, and wait until it is ready."""
        values = images() | {"artifacts": artifacts or {}}
        values["gateway"] |= gateway
        verb = "upgrade" if upgrade else "install"
        where = ("--namespace", self.namespace)
        wait = ("--wait", "--timeout", f"{_START_SECONDS}s")
        helm(verb, "corral", str(CHART), *where, *wait, values=values, seconds=_START_SECONDS + 60)

    def uninstall(self) -> None:
        """Take it away, and wait until its pods are gone."""
        where = ("--namespace", self.namespace)
        helm("uninstall", "corral", *where, "--wait", "--ignore-not-found")
        eventually(
            lambda: kubectl("get", "pods", *where, "-l", "app.kubernetes.io/component=gateway", "-o", "name"),
            lambda names: names == "",
            seconds=90,
        )

    def corral(self, *arguments: str) -> str:
        """Run the command in the gateway's pod, as an admin of the cluster does."""
        where = ("--namespace", self.namespace)
        return kubectl("exec", *where, "deploy/corral-gateway", "--", "corral", *arguments).strip()

    def python(self, code: str, *arguments: str) -> str:
        """Run Python in the gateway's pod."""
        where = ("--namespace", self.namespace)
        inside = ("python3", "-c", code, *arguments)
        return kubectl("exec", *where, "deploy/corral-gateway", "--", *inside).strip()

    def log(self) -> str:
        """Return the gateway's log."""
        return kubectl("logs", "--namespace", self.namespace, "deploy/corral-gateway", "--tail=-1")

    def pod(self) -> dict[str, Any]:
        """Return the gateway's only pod."""
        (pod,) = self.pods()
        return pod

    def pods(self) -> list[dict[str, Any]]:
        """Return the gateway's pods that are ready, oldest first."""
        selector = ("-l", "app.kubernetes.io/component=gateway", "--sort-by=.metadata.creationTimestamp")
        found = json.loads(kubectl("get", "pods", "--namespace", self.namespace, *selector, "-o", "json"))
        return [each for each in found["items"] if _is_ready(each)]

    @contextmanager
    def forwarded(self, port: int, target: str = "service/corral-gateway") -> Iterator[str]:
        """Forward a port of it to this machine; yield the URL."""
        command = [program("kubectl"), "port-forward", "--namespace", self.namespace, target, f":{port}"]
        with tempfile.TemporaryDirectory() as folder:
            told = Path(folder) / "told"
            with told.open("wb") as file:
                process = subprocess.Popen(command, stdout=file, stderr=file)
            try:
                local = eventually(lambda: re.search(r"127\.0\.0\.1:(\d+) ->", told.read_text()), seconds=30)
                assert local is not None
                yield f"http://127.0.0.1:{local[1]}"
            finally:
                process.terminate()
                process.wait(timeout=60)


def _is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod["status"].get("conditions", [])
    ready = any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]
