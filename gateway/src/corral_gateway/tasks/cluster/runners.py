"""What runners in pods say, read with the token that may only read."""

import asyncio
import base64
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from corral.api import Frame
from corral.cluster.names import RUNNER_KEY_SECRET, RUNNER_LABEL, RUNNER_PORT
from corral.cluster.port import PODS, SECRETS, ClusterError, Json, WatchedCluster
from corral.sandbox.errors import ProtocolBrokenError, SandboxLostError
from corral.sandbox.pod.allowance import Allowance, most_bytes
from corral.sandbox.pod.channel import PodChannel
from corral.sandbox.pod.tokens import KEY_BYTES, PodTokens

log = logging.getLogger(__name__)

_CONNECT_SECONDS = 3.0
_HELLO_SECONDS = 10.0
_POD_WATCH_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt of an execution, in the sandbox that its status names."""

    task_uid: str
    execution: str
    attempt: int
    namespace: str
    pod: str


class Runners:
    """The runners of a cluster, for who reads along."""

    def __init__(self, cluster: WatchedCluster, key_namespace: str) -> None:
        """Prepare.

        Args:
            cluster: where pods and the key are.
            key_namespace: the operator's namespace, where the runners' key is.
        """
        self._cluster = cluster
        self._key_namespace = key_namespace
        self._key: bytes | None = None

    async def frames(self, attempt: Attempt) -> AsyncGenerator[Frame]:
        """Yield what an attempt's runner says, from its first frame on.

        Raises:
            SandboxLostError: it cannot be reached, or not any more, or is none of ours.
            RequestRefusedError: it does not take our token.
            FrameError: it says what is no frame.
        """
        try:
            tokens = PodTokens.of(await self._read_key(), attempt.namespace, attempt.pod)
            host = await self._address(attempt)
        except ClusterError as error:
            raise SandboxLostError(str(error)) from error
        channel = await self._connect(host, tokens)
        try:
            async with asyncio.timeout(_HELLO_SECONDS):
                described = await channel.described()
            owner = f"{attempt.task_uid}/{attempt.execution}"
            if described.owner is not None and described.owner.uid != owner:
                raise SandboxLostError("the sandbox serves another task")
            async for frame in channel.frames():
                if frame.execution in {None, attempt.execution}:
                    yield frame
        except ProtocolBrokenError:
            self._key = None  # perhaps the operator has made another one
            raise
        except TimeoutError:
            raise SandboxLostError("the runner does not answer") from None
        finally:
            channel.close()

    async def _read_key(self) -> bytes:
        if self._key is None:
            secret = await self._cluster.get(SECRETS, self._key_namespace, RUNNER_KEY_SECRET)
            key = base64.b64decode((secret.get("data") or {}).get("key") or "")
            if len(key) < KEY_BYTES:
                raise SandboxLostError(f"the Secret {RUNNER_KEY_SECRET} has no usable key")
            self._key = key
        return self._key

    async def _address(self, attempt: Attempt) -> str:
        """Wait until the pod's runner listens somewhere: one watch of the one pod."""
        watch = self._cluster.watch(
            PODS,
            attempt.namespace,
            "",
            seconds=_POD_WATCH_SECONDS,
            field_selector=f"metadata.name={attempt.pod}",
        )
        async with aclosing(watch):
            async for event in watch:
                pod: Json = event["object"]
                if event["type"] == "BOOKMARK":
                    continue
                metadata, status = pod["metadata"], pod.get("status") or {}
                if event["type"] == "DELETED" or status.get("phase") in {"Succeeded", "Failed"}:
                    raise SandboxLostError(f"the pod {attempt.pod} has ended")
                if (metadata.get("labels") or {}).get(RUNNER_LABEL) != "true":
                    raise SandboxLostError(f"the pod {attempt.pod} has no runner")
                states = [one.get("state") or {} for one in status.get("containerStatuses") or ()]
                if status.get("podIP") and any("running" in state for state in states):
                    return str(status["podIP"])
        raise SandboxLostError(f"the pod {attempt.pod} does not run yet")

    @staticmethod
    async def _connect(host: str, tokens: PodTokens) -> PodChannel:
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                _, channel = await asyncio.get_running_loop().create_connection(
                    lambda: PodChannel(tokens.read, tokens.start_sha256, Allowance(most_bytes(None))),
                    host,
                    RUNNER_PORT,
                )
        except (OSError, TimeoutError) as error:
            raise SandboxLostError(f"the runner at {host} cannot be reached: {error!r}") from error
        return channel
