"""Takes objects away, each by one request: several have reason to, before a watch tells that it is going."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from corral.cluster.port import Cluster, ObjectKey, Refused, Resource
from corral_operator.control.workers import Background


class Deletions:
    """Objects whose deletion was asked for."""

    def __init__(self, cluster: Cluster, background: Background) -> None:
        self._cluster = cluster
        self._background = background
        self._asked: dict[str, asyncio.Task[None]] = {}
        #: Asked for once more, in case that the first one ends with its object staying.
        self._again: dict[str, Callable[[], None]] = {}

    def delete(
        self,
        resource: Resource,
        key: ObjectKey,
        *,
        after_seconds: float = 0,
        may_go: Callable[[], Awaitable[bool]] | None = None,
    ) -> None:
        """Take an object away, in the background. While the API server does not answer, it is asked again.

        Args:
            resource: of the object.
            key: of the object.
            after_seconds: waits so long first.
            may_go: asked before; if it says no, the object stays.
        """
        if key.uid in self._asked:
            self._again[key.uid] = partial(
                self.delete, resource, key, after_seconds=after_seconds, may_go=may_go
            )
        else:
            self._asked[key.uid] = self._background.run(
                partial(self._delete, resource, key, after_seconds, may_go),
                f"delete {resource.plural} {key.name}",
                attempts=None,
            )

    def is_asked_for(self, uid: str) -> bool:
        """Whether an object is being taken away, or somebody finds out whether it may be."""
        return uid in self._asked

    def forget(self, uid: str) -> None:
        """The object does not exist any more."""
        self._again.pop(uid, None)
        task = self._asked.pop(uid, None)
        if task is not None:
            task.cancel()

    def halt(self) -> None:
        """Ask for nothing more: whoever acts from now on may have other plans for what was to go."""
        for uid in list(self._asked):
            self.forget(uid)

    async def _delete(
        self,
        resource: Resource,
        key: ObjectKey,
        after_seconds: float,
        may_go: Callable[[], Awaitable[bool]] | None,
    ) -> None:
        await asyncio.sleep(after_seconds)
        if may_go is not None and not await may_go():
            self._asked.pop(key.uid, None)
            again = self._again.pop(key.uid, None)
            if again is not None:
                again()
            return
        try:
            await self._cluster.delete(resource, key)
        except Refused:
            # Given up here; whoever looks next, and the sweep sees to it that somebody does, asks anew.
            self._asked.pop(key.uid, None)
            raise
