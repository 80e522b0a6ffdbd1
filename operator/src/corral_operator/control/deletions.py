"""Takes pods away, each by one request: several have reason to, before a watch tells that it is going."""

from functools import partial

from corral_operator.cluster.port import PODS, Cluster, ClusterError
from corral_operator.control.workers import Background
from corral_operator.views import ObjectKey


class Deletions:
    """Pods whose deletion was asked for."""

    def __init__(self, cluster: Cluster, background: Background) -> None:
        self._cluster = cluster
        self._background = background
        self._asked: set[str] = set()

    def delete(self, pod: ObjectKey) -> None:
        """Take a pod away, in the background."""
        if pod.uid not in self._asked:
            self._asked.add(pod.uid)
            self._background.run(partial(self._delete, pod), f"delete pod {pod.name}", attempts=20)

    def forget(self, pod: str) -> None:
        """The pod does not exist any more."""
        self._asked.discard(pod)

    async def _delete(self, pod: ObjectKey) -> None:
        try:
            await self._cluster.delete(PODS, pod)
        except ClusterError:
            # Tried again here; given up here, whoever looks next asks anew.
            self._asked.discard(pod.uid)
            raise
        self._asked.add(pod.uid)
