"""The operator that the chart installed: its settings, its metrics, its end by force, and a while without it."""

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cluster.api import Api, Object, kubectl
from eventually import eventually

_LABELS = "app.kubernetes.io/name=corral,app.kubernetes.io/component=operator"
_START_SECONDS = 120.0


class Installation:
    """The operator's Deployment and its pod."""

    def __init__(self, api: Api, deployment: Object) -> None:
        self._api = api
        self.namespace: str = deployment["metadata"]["namespace"]
        self.name: str = deployment["metadata"]["name"]
        self.account: str = deployment["spec"]["template"]["spec"]["serviceAccountName"]

    @classmethod
    def find(cls, api: Api) -> "Installation":
        """Find it: the one that CORRAL_TEST_OPERATOR names as NAMESPACE/NAME, else the only one.

        Raises:
            AssertionError: there is none, or several; the message says what to do.
        """
        found = api.request("GET", "/apis/apps/v1/deployments", query={"labelSelector": _LABELS})["items"]
        named = os.environ.get("CORRAL_TEST_OPERATOR")
        ids = {f"{one['metadata']['namespace']}/{one['metadata']['name']}": one for one in found}
        if named is None:
            assert ids, "no operator is installed: helm install corral charts/corral --set namespaces={*}"
            assert len(ids) == 1, (
                f"several operators are installed: set CORRAL_TEST_OPERATOR to one of {sorted(ids)}"
            )
            return cls(api, found[0])
        assert named in ids, f"CORRAL_TEST_OPERATOR={named}: there is only {sorted(ids)}"
        return cls(api, ids[named])

    @property
    def settings(self) -> dict[str, str]:
        """Its CORRAL_… environment, as the Deployment gives it."""
        deployment = self._api.get("Deployment", self.namespace, self.name)
        container = deployment["spec"]["template"]["spec"]["containers"][0]
        return {one["name"]: one.get("value", "") for one in container["env"]}

    def pod(self) -> Object:
        """Wait until exactly one pod of it is there and ready, and return it."""
        return eventually(self._ready_pod, seconds=_START_SECONDS)

    def _ready_pod(self) -> Object:
        pods = self._api.list("Pod", self.namespace, labelSelector=_LABELS)
        whole = len(pods) == 1 and "deletionTimestamp" not in pods[0]["metadata"]
        conditions = pods[0].get("status", {}).get("conditions", []) if whole else []
        ready = any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
        return pods[0] if ready else {}

    def metrics(self) -> dict[str, float]:
        """Return its metrics by name and labels, as Prometheus writes them."""
        # From within: the chart's NetworkPolicy lets other pods read them, and the API server's proxy is none.
        read = "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:9090/metrics').read().decode())"
        pod = self.pod()["metadata"]["name"]
        text = kubectl(
            "--namespace", self.namespace, "exec", pod, "--container=operator", "--", "python3", "-c", read
        )
        return parse_metrics(text)

    def kill(self) -> None:
        """Kill its process as a machine would: SIGKILL, from its node. The kubelet starts another one."""
        pod = self.pod()
        status = pod["status"]["containerStatuses"][0]
        container = status["containerID"].partition("://")[2]
        node = pod["spec"]["nodeName"]
        command = [
            "docker",
            "exec",
            node,
            "ctr",
            "--namespace",
            "k8s.io",
            "task",
            "kill",
            "--signal",
            "SIGKILL",
        ]
        subprocess.run([*command, container], check=True, capture_output=True, timeout=30)
        count = status["restartCount"]
        eventually(lambda: self._restarts(pod["metadata"]["name"]) > count, seconds=_START_SECONDS)
        self.pod()

    def _restarts(self, pod: str) -> int:
        found = self._api.get("Pod", self.namespace, pod)
        return int(found["status"]["containerStatuses"][0]["restartCount"])

    @contextmanager
    def away(self) -> Iterator[None]:
        """Take it away for a while: no pod of it is there."""
        self._scale(0)
        eventually(
            lambda: not self._api.list("Pod", self.namespace, labelSelector=_LABELS), seconds=_START_SECONDS
        )
        try:
            yield
        finally:
            self._scale(1)
            self.pod()

    def _scale(self, replicas: int) -> None:
        self._api.patch("Deployment", self.namespace, self.name, {"spec": {"replicas": replicas}}, "scale")

    @contextmanager
    def with_settings(self, **settings: str) -> Iterator[None]:
        """Run it with other settings for a while, each a CORRAL_… variable."""
        before = self.settings
        self._set({name: settings[name] for name in settings})
        try:
            yield
        finally:
            self._set({name: before.get(name) for name in settings})

    def _set(self, settings: dict[str, Any]) -> None:
        words = [f"{name}-" if value is None else f"{name}={value}" for name, value in settings.items()]
        where = ("--namespace", self.namespace)
        kubectl(*where, "set", "env", f"deployment/{self.name}", "--containers=operator", *words)
        kubectl(*where, "rollout", "status", f"deployment/{self.name}", "--timeout=120s", seconds=150)
        self.pod()


def parse_metrics(text: str) -> dict[str, float]:
    """Parse Prometheus' text format."""
    found = {}
    for line in text.splitlines():
        match = re.fullmatch(r"([a-zA-Z_:][^ {]*(?:\{.*\})?) (\S+)(?: \d+)?", line)
        if match is not None:
            found[match[1]] = float(match[2])
    return found
