"""The connections to all runners, by pod."""

import asyncio
from collections.abc import Callable

from corral.cluster.names import RUNNER_LABEL, RUNNER_PORT
from corral.cluster.port import ObjectKey
from corral_operator.control.podmaker import PodMaker
from corral_operator.sandboxes.link import Link
from corral_operator.views import PodView


class Links:
    """One connection per pod whose runner is, or may soon be, there."""

    def __init__(self, maker: PodMaker, on_change: Callable[[ObjectKey], None]) -> None:
        self._maker = maker
        self._on_change = on_change
        self._links: dict[str, Link] = {}

    def see(self, pod: PodView) -> None:
        """Connect to a pod that runs; give up one that has ended."""
        link = self._links.get(pod.key.uid)
        if pod.ended and not (pod.deleting and pod.container.running):
            if link is not None:
                link.give_up(f"the pod {pod.key.name} has ended")
        elif link is None and pod.ip and pod.container.running and pod.labels.get(RUNNER_LABEL) == "true":
            tokens = self._maker.tokens(pod.key.namespace, pod.key.name)
            self._links[pod.key.uid] = Link(pod.key, pod.ip, RUNNER_PORT, tokens.start, self._on_change)

    def gone(self, pod: ObjectKey) -> None:
        """Give up the connection to a pod that does not exist any more."""
        link = self._links.pop(pod.uid, None)
        if link is not None:
            link.give_up(f"the pod {pod.name} is gone")

    def find(self, pod: ObjectKey) -> Link | None:
        """Return the connection to a pod, None if there is none."""
        return self._links.get(pod.uid)

    async def close(self) -> None:
        """Close all connections; the runners go on."""
        links, self._links = list(self._links.values()), {}
        await asyncio.gather(*(link.close() for link in links))
