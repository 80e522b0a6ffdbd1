"""A pool whose sandbox's runner takes connections and never answers."""

from collections.abc import Mapping
from typing import Any, cast

import pytest

from corral.api import SandboxPool
from corral.cluster.port import PODS, Cluster, NotFound, ObjectKey, Resource
from corral.sandbox.pod.tokens import KEY_BYTES
from corral_operator.clock import Clock
from corral_operator.control.deletions import Deletions
from corral_operator.control.links import Links
from corral_operator.control.namespaces import Namespaces
from corral_operator.control.podmaker import PodMaker
from corral_operator.control.pools import Pools
from corral_operator.control.store import Shelf, Store
from corral_operator.control.workers import Background
from corral_operator.names import CONTAINER
from corral_operator.settings import Settings
from corral_operator.views import Json, pod_view
from eventually import eventually_async
from unit.operator.runners import ScriptedRunner

SETTINGS = Settings(pod_start_seconds=0.3)
POOL: dict[str, Any] = {
    "apiVersion": "corral.dev/v1alpha1",
    "kind": "SandboxPool",
    "metadata": {
        "namespace": "team",
        "name": "small",
        "uid": "pool-uid",
        "generation": 1,
        "resourceVersion": "1",
    },
    "spec": {"replicas": 1},
}


class _Cluster:
    """Runs every pod that is made on this machine, ready at once, as a kubelet sees it."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.deleted: list[str] = []

    async def get(self, resource: Resource, _namespace: str, name: str) -> Json:
        raise NotFound(404, "NotFound", f"no {resource.plural} {name}", {})

    async def create(self, resource: Resource, namespace: str, body: Mapping[str, Any]) -> Json:
        if resource is not PODS:
            return body
        name = body["metadata"]["name"]
        self.made.append(name)
        metadata = {"namespace": namespace, "uid": f"uid-{name}", "resourceVersion": str(len(self.made))}
        status = {
            "phase": "Running",
            "podIP": "127.0.0.1",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{"name": CONTAINER, "state": {"running": {}}}],
        }
        return {**body, "metadata": {**body["metadata"], **metadata}, "status": status}

    async def patch(
        self, _resource: Resource, _namespace: str, _name: str, body: Mapping[str, Any], **_options: Any
    ) -> Json:
        status = {"metadata": {**POOL["metadata"], "resourceVersion": "2"}, "status": body["status"]}
        return {**POOL, **status}

    async def delete(self, _resource: Resource, key: ObjectKey, **_options: Any) -> None:
        self.deleted.append(key.name)


async def test_B13_a_sandbox_whose_runner_never_answers_loses_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with ScriptedRunner.started() as runner:
        runner.is_silent = True
        monkeypatch.setattr("corral_operator.control.links.RUNNER_PORT", runner.port)
        seen = _Cluster()
        cluster, background, maker = cast("Cluster", seen), Background(), PodMaker(SETTINGS, b"k" * KEY_BYTES)
        store = Store(
            tasks=Shelf(cast("Any", None)),
            pods=Shelf(lambda body: pod_view(body, CONTAINER), lambda pod: pod.owner_uid),
            pools=Shelf(SandboxPool.model_validate),
            tools=Shelf(cast("Any", None)),
        )

        def runner_changed(key: ObjectKey) -> None:
            pools.runner_changed(key)

        links = Links(maker, runner_changed)
        store.pods.on_new = links.see
        pools = Pools(
            store=store,
            cluster=cluster,
            links=links,
            maker=maker,
            namespaces=Namespaces(cluster, SETTINGS),
            deletions=Deletions(cluster, background),
            clock=Clock(),
            settings=SETTINGS,
            kick_task=lambda _uid: None,
            may_act=lambda: True,
        )
        store.pools.put(POOL)
        pools.kick("pool-uid")
        await eventually_async(lambda: runner.connections)
        await eventually_async(lambda: seen.deleted)
        assert seen.deleted == seen.made[:1]
        await pools.close()
        await links.close()
        await background.close()
