"""Sees to it that a namespace's sandbox pods are closed to the network before there is one."""

import time
from collections.abc import Callable

from corral.cluster.port import NETWORK_POLICIES, AlreadyExists, Cluster, NotFound
from corral_operator.builders.network_policy import network_policy
from corral_operator.names import NETWORK_POLICY
from corral_operator.settings import Settings


class Namespaces:
    """The namespaces whose policy is known to stand."""

    def __init__(
        self, cluster: Cluster, settings: Settings, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._cluster = cluster
        self._settings = settings
        self._clock = clock
        self._seen: dict[str, float] = {}

    async def close_off(self, namespace: str) -> None:
        """Make or mend the NetworkPolicy, unless it was seen lately.

        Raises:
            ClusterError: that could not be done; no sandbox pod may be made there.
        """
        seen = self._seen.get(namespace)
        if seen is not None and self._clock() - seen < self._settings.sweep_seconds:
            return
        wanted = network_policy(namespace, self._settings)
        try:
            found = await self._cluster.get(NETWORK_POLICIES, namespace, NETWORK_POLICY)
        except NotFound:
            try:
                await self._cluster.create(NETWORK_POLICIES, namespace, wanted)
            except AlreadyExists:
                await self.close_off(namespace)
        else:
            if found.get("spec") != wanted["spec"]:
                # A merge would keep what somebody added; the whole list of rules is ours.
                await self._cluster.patch(
                    NETWORK_POLICIES, namespace, NETWORK_POLICY, {"spec": wanted["spec"]}
                )
        self._seen[namespace] = self._clock()
