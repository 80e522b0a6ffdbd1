"""Proves at start that somebody enforces NetworkPolicies, with a sandbox pod of the operator's own.

Every cluster takes a NetworkPolicy; only some do anything about it, and none says which. So a pod that looks to
the network exactly as a tenant's sandbox tries to reach the API server, which answers everybody in every cluster:
if it is refused or gets no answer, again and again, while this operator reaches both the pod and the API server at
the same address, before and after, the policy is in force.
"""

import asyncio
import logging
import os
import secrets
from collections.abc import Callable

from corral.api import DEFAULT_LIMITS, FrameError, ResolvedLimits, Result
from corral.cluster.names import RUNNER_PORT
from corral.cluster.port import PODS, Cluster, ClusterError, Json, NotFound, ObjectKey
from corral.sandbox.errors import SandboxError, SandboxLostError
from corral.sandbox.port import ExecutionRequest, Owner
from corral_operator.builders.runner import runner_settings
from corral_operator.builders.sandbox_pod import PodOwner, PodSpec, RunnerProcess, sandbox_pod
from corral_operator.control.namespaces import Namespaces
from corral_operator.control.podmaker import PodMaker
from corral_operator.decisions.sizes import SandboxSize
from corral_operator.metrics import NETWORK_POLICY_ENFORCED
from corral_operator.names import CONTAINER
from corral_operator.sandboxes.link import Link
from corral_operator.settings import Settings
from corral_operator.views import pod_view

log = logging.getLogger(__name__)

#: A policy reaches a new pod late; within this time it has.
_SETTLE_SECONDS = 5
_LOOK_SECONDS = 0.25
_AGAIN_SECONDS = 60.0
#: Not in force before, it may be later: somebody installs a CNI plugin that enforces, or takes it out.
_CHECK_AGAIN_SECONDS = 3600.0
_SIZE = SandboxSize(0.1, 64 << 20, 8 << 20)

#: One attempt may fail by chance.
_REFUSALS = 3
_CODE = """
import socket, time
def main(host, port, seconds, refusals):
    end = time.monotonic() + seconds
    refused = 0
    while refused < refusals:
        try:
            socket.create_connection((host, port), timeout=1).close()
        except OSError:
            refused += 1
        else:
            refused = 0
            if time.monotonic() > end:
                return True
        time.sleep(0.3)
    return False
"""


class PolicyProbe:
    """Asks, as long as the operator runs, whether NetworkPolicies hold."""

    def __init__(
        self,
        cluster: Cluster,
        settings: Settings,
        maker: PodMaker,
        namespaces: Namespaces,
        on_result: Callable[[bool | None], None],
    ) -> None:
        self._cluster = cluster
        self._settings = settings
        self._maker = maker
        self._namespaces = namespaces
        self._on_result = on_result

    async def run(self) -> None:
        """Ask now, and again now and then."""
        target = _api_server()
        if target is None:
            log.warning("not in a cluster: whether NetworkPolicies are enforced is not found out")
            return
        while True:
            try:
                async with asyncio.timeout(self._settings.pod_start_seconds):
                    enforced = await self._ask(target)
            except (ClusterError, OSError, TimeoutError, SandboxError, FrameError) as error:
                log.warning("whether NetworkPolicies are enforced could not be found out: %r", error)
                await asyncio.sleep(_AGAIN_SECONDS)
                continue
            NETWORK_POLICY_ENFORCED.set(int(enforced))
            if not enforced:
                log.error(
                    "nobody enforces NetworkPolicies in this cluster: sandboxes are kept from the network by the "
                    "runner's own filter alone. Install a CNI plugin that enforces them"
                )
            self._on_result(enforced)
            await asyncio.sleep(_CHECK_AGAIN_SECONDS if enforced else _AGAIN_SECONDS)

    async def _ask(self, target: tuple[str, int]) -> bool:
        namespace = self._settings.operator_namespace
        await self._namespaces.close_off(namespace)
        name = f"corral-probe-{secrets.token_hex(4)}"
        made = await self._cluster.create(PODS, namespace, self._pod(namespace, name))
        key = ObjectKey(namespace, name, made["metadata"]["uid"])
        try:
            address = await self._running(key)
            await _connect(target)
            reached = await self._reaches(key, address, target)
            await _connect(target)
            return not reached
        finally:
            await self._cluster.delete(PODS, key)

    def _pod(self, namespace: str, name: str) -> Json:
        tokens = self._maker.tokens(namespace, name)
        process = RunnerProcess(
            tokens.start_sha256, tokens.read_sha256, runner_settings(self._settings, waits=False)
        )
        pod = sandbox_pod(
            PodSpec(
                name=name,
                namespace=namespace,
                labels={},
                owner=PodOwner("v1", "Pod", self._settings.identity, self._settings.pod_uid or ""),
                image=self._settings.sandbox_image,
                size=_SIZE,
                process=process,
                runtime_class=self._settings.runtime_class,
                active_deadline_seconds=int(self._settings.pod_start_seconds),
            ),
            self._settings,
        )
        if self._settings.pod_uid is None:  # the operator runs outside the cluster: nobody owns the pod
            del pod["metadata"]["ownerReferences"]
        return pod

    async def _running(self, key: ObjectKey) -> str:
        """Wait for the pod's address. Asked for, not watched: this is one pod, once."""
        while True:
            try:
                pod = pod_view(await self._cluster.get(PODS, key.namespace, key.name), CONTAINER)
            except NotFound:
                raise SandboxLostError("the probe's pod was deleted") from None
            if pod.ended:
                raise SandboxLostError(f"the probe's pod ended: {pod.reason or pod.container.terminated}")
            if pod.ip and pod.container.running:
                return pod.ip
            await asyncio.sleep(_LOOK_SECONDS)

    async def _reaches(self, key: ObjectKey, address: str, target: tuple[str, int]) -> bool:
        tokens = self._maker.tokens(key.namespace, key.name)
        link = Link(key, address, RUNNER_PORT, tokens.start, lambda _pod: None)
        try:
            owner = Owner(key.uid)
            async for frame in link.follow(owner, _request(owner, target), "probe", ()):
                if isinstance(frame, Result):
                    if not frame.result.succeeded:
                        raise SandboxLostError(f"the probe itself failed: {frame.result.message}")
                    return frame.result.result is not False
        finally:
            await link.close()
        raise SandboxLostError("the probe ended without a result")


def _api_server() -> tuple[str, int] | None:
    """Return where every pod of a cluster is told that its API server is."""
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT")
    return (host, int(port)) if host and port else None


async def _connect(target: tuple[str, int]) -> None:
    """Show that whoever is let through gets an answer.

    Raises:
        OSError: nobody does.
    """
    _reader, writer = await asyncio.open_connection(*target)
    writer.close()


def _request(owner: Owner, target: tuple[str, int]) -> ExecutionRequest:
    host, port = target
    return ExecutionRequest(
        id="probe",
        owner=owner,
        run={"function": {"code": _CODE, "entrypoint": "main"}},
        arguments={"host": host, "port": port, "seconds": _SETTLE_SECONDS, "refusals": _REFUSALS},
        limits=ResolvedLimits.of(DEFAULT_LIMITS),
        # The runner's own filter off: what is asked is whether the policy alone holds.
        network="open",
        permissions=("read", "network"),
    )
