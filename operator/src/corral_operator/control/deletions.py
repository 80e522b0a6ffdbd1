"""Takes objects away, each by one request: several have reason to, before a watch tells that it is going."""

import asyncio
from functools import partial

from corral.cluster.port import Cluster, ObjectKey, Refused, Resource
from corral_operator.control.workers import Background


class Deletions:
    """Objects whose deletion was asked for."""

    def __init__(self, cluster: Cluster, background: Background) -> None:
        self._cluster = cluster
        self._background = background
        self._asked: dict[str, asyncio.Task[None]] = {}

    def delete(self, resource: Resource, key: ObjectKey, *, after_seconds: float = 0) -> None:
        """Take an object away, in the background. While the API server does not answer, it is asked again."""
        if key.uid not in self._asked:
            self._asked[key.uid] = self._background.run(
                partial(self._delete, resource, key, after_seconds),
                f"delete {resource.plural} {key.name}",
                attempts=None,
            )

    def forget(self, uid: str) -> None:
        """The object does not exist any more."""
        task = self._asked.pop(uid, None)
        if task is not None:
            task.cancel()

    def halt(self) -> None:
        """Ask for nothing more: whoever acts from now on may have other plans for what was to go."""
        for uid in list(self._asked):
            self.forget(uid)

    async def _delete(self, resource: Resource, key: ObjectKey, after_seconds: float) -> None:
        await asyncio.sleep(after_seconds)
        try:
            await self._cluster.delete(resource, key)
        except Refused:
            # Given up here; whoever looks next, and the sweep sees to it that somebody does, asks anew.
            self._asked.pop(key.uid, None)
            raise
