"""A namespace to measure in: submits, and hears by watches when what it waits for is there."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from corral.cluster.kubernetes_api import KubernetesCluster
from corral.cluster.port import AlreadyExists, Resource

Json = dict[str, Any]
CRDS = Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions", namespaced=False)
FLOW_SCHEMAS = Resource("flowcontrol.apiserver.k8s.io", "v1", "flowschemas", namespaced=False)
NAMESPACES = Resource("", "v1", "namespaces", namespaced=False)
#: The same resource under a group that nobody watches: what a create and a patch of it cost is the reference.
REFERENCES = Resource("bench.corral.dev", "v1alpha1", "rounds")
_CRD = Path(__file__).parents[3] / "k8s" / "crds" / "agenttasks.corral.dev.yaml"


class World:
    """One namespace of a cluster, watched."""

    def __init__(self, cluster: KubernetesCluster, namespace: str) -> None:
        self.cluster = cluster
        self.namespace = namespace
        #: Names of pods that a task was seen to have.
        self.used: set[str] = set()
        self._waiters: dict[str, list[tuple[Callable[[Json], bool], asyncio.Future[float]]]] = {}

    async def prepare(self) -> None:
        """Make the namespace and the reference's CRD, unless they are there."""
        crd = yaml.safe_load(_CRD.read_text())
        crd["spec"]["group"] = REFERENCES.group
        crd["metadata"]["name"] = f"{REFERENCES.plural}.{REFERENCES.group}"
        crd["spec"]["names"] = {
            "kind": "Round",
            "listKind": "RoundList",
            "plural": "rounds",
            "singular": "round",
        }
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}}
        namespace["metadata"] = {"name": self.namespace, "labels": labels}
        for resource, body in ((NAMESPACES, namespace), (CRDS, crd)):
            try:
                await self.cluster._json("POST", resource, resource.path(), body=body)
            except AlreadyExists:
                continue
        await asyncio.sleep(2)  # a new kind is served a moment after its definition is taken

    async def text(self, path: str) -> str:
        """Read a path of the API server as text."""
        data = await self.cluster._request("GET", NAMESPACES, path)
        return data.decode()

    @asynccontextmanager
    async def watching(self, resource: Resource) -> AsyncIterator[None]:
        """Hear every change of a kind while the context lasts."""
        path = resource.path(self.namespace)
        listed = await self.cluster._json("GET", resource, path, query={"limit": "1"})
        ready = asyncio.Event()
        work = self._watch(path, listed["metadata"]["resourceVersion"], ready)
        task = asyncio.get_running_loop().create_task(work)
        await ready.wait()
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _watch(self, path: str, version: str, ready: asyncio.Event) -> None:
        cluster = self.cluster
        url = f"{cluster._configuration.host}{path}?watch=1&resourceVersion={version}"
        settings: Any = (await cluster._configuration.auth_settings()).values()
        headers = {setting["key"]: setting["value"] for setting in settings}
        async with (
            cluster._rest._create_pool_manager() as session,
            session.get(url, headers=headers, timeout=aiohttp.ClientTimeout(total=None)) as response,
        ):
            ready.set()
            rest = b""
            async for chunk in response.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self._hear(json.loads(line)["object"])

    def _hear(self, body: Json) -> None:
        now = time.perf_counter()
        self.used.add(((body.get("status") or {}).get("sandbox") or {}).get("podName", ""))
        waiters = self._waiters.get(body["metadata"]["name"], [])
        for waiter in list(waiters):
            wanted, future = waiter
            if not future.done() and wanted(body):
                future.set_result(now)
                waiters.remove(waiter)

    def until(self, name: str, wanted: Callable[[Json], bool]) -> "asyncio.Future[float]":
        """Return when an object is seen to be as wanted, on the performance counter."""
        future: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(name, []).append((wanted, future))
        return future
