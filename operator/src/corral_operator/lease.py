"""One active operator at a time, by a Lease; the others watch, and one of them takes over in seconds.

The Lease keeps two operators from doing the same work. That an execution starts once does not hang on it: statuses
are written only onto the version that was read, and a runner takes one owner in its life.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from corral.api import time_text
from corral.cluster.port import LEASES, Cluster, ClusterError, Conflict, Json, NotFound
from corral_operator.clock import Clock
from corral_operator.metrics import LEADER
from corral_operator.names import LEASE
from corral_operator.settings import Settings

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Seen:
    """The Lease as it was last seen to change, on our own clock: other machines' clocks are not compared."""

    holder: str = ""
    version: str = ""
    at: float = 0.0


class Leadership:
    """Holds the Lease while it can, and tells when it is gained and lost."""

    def __init__(
        self,
        cluster: Cluster,
        settings: Settings,
        clock: Clock,
        on_change: Callable[[bool], None],
    ) -> None:
        self._cluster = cluster
        self._settings = settings
        self._clock = clock
        self._on_change = on_change
        self._seen = _Seen()
        self._renewed = 0.0
        #: Version of the Lease that we wrote last; None: whether we wrote is not known.
        self._written: str | None = None
        self.active = False

    async def run(self) -> None:
        """Compete for ever. When cancelled, the Lease is given back, so that nobody has to wait for its end."""
        if not self._settings.leader_election:
            self._set(active=True)
            await asyncio.Event().wait()
        period = self._settings.lease_seconds / 4
        try:
            while True:
                began = time.monotonic()
                self._look_at_the_term()  # this process may have stood still for a while
                await self._once()
                self._look_at_the_term()
                await asyncio.sleep(max(0.05, period - (time.monotonic() - began)))
        finally:
            if self.active:
                self._set(active=False)
                await self._give_back()

    @property
    def _left(self) -> float:
        """Seconds that this operator may go on acting. A quarter of the term is kept for stopping in time."""
        return self._renewed + self._settings.lease_seconds * 0.75 - time.monotonic()

    def _look_at_the_term(self) -> None:
        if self.active and self._left <= 0:
            log.warning("the Lease could not be renewed in time; another operator may take over")
            self._set(active=False)

    async def _once(self) -> None:
        asked = time.monotonic()
        try:
            half = self._settings.lease_seconds / 2
            async with asyncio.timeout(min(half, self._left) if self.active else half):
                lease = await self._read()
                if not self._may_take(lease):
                    self._set(active=False)
                    return
                self._look_for_a_namesake(lease)
                self._written = None
                lease = await self._cluster.replace(
                    LEASES, self._settings.operator_namespace, self._held(lease)
                )
                self._written = lease["metadata"]["resourceVersion"]
        except Conflict:
            log.debug("another operator wrote the Lease first")
            return
        except (ClusterError, TimeoutError) as error:
            log.warning("the Lease: %s", repr(error))
            return
        self._renewed = asked  # the term began, for everybody else, when they saw the write, so not before
        self._set(active=True)

    def _look_for_a_namesake(self, lease: Json) -> None:
        """Say so where another process renews the Lease under our name: both act, and no standby ever will."""
        if self.active and self._written not in {None, lease["metadata"]["resourceVersion"]}:
            identity = self._settings.identity
            log.error(
                "another operator holds the Lease as %s too; give each a CORRAL_IDENTITY of its own", identity
            )

    async def _read(self) -> Json:
        namespace = self._settings.operator_namespace
        try:
            lease = await self._cluster.get(LEASES, namespace, LEASE)
        except NotFound:
            body = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": LEASE, "namespace": namespace},
                "spec": {"holderIdentity": "", "leaseTransitions": 0},
            }
            lease = await self._cluster.create(LEASES, namespace, body)
        version = lease["metadata"]["resourceVersion"]
        if version != self._seen.version:
            holder = (lease.get("spec") or {}).get("holderIdentity") or ""
            if holder not in {self._seen.holder, self._settings.identity}:
                # A standby's one line: without it, whom it waits for shows nowhere.
                log.info("the Lease is held by %s", holder or "nobody")
            self._seen = _Seen(holder, version, time.monotonic())
        return lease

    def _may_take(self, lease: Json) -> bool:
        holder = self._seen.holder
        if holder in {"", self._settings.identity}:
            return True
        term = (lease.get("spec") or {}).get("leaseDurationSeconds") or self._settings.lease_seconds
        return time.monotonic() - self._seen.at > float(term)

    def _held(self, lease: Json) -> Json:
        now = time_text(self._clock.now())
        spec: dict[str, Any] = dict(lease.get("spec") or {})
        if spec.get("holderIdentity") != self._settings.identity:
            spec["acquireTime"] = now
            spec["leaseTransitions"] = int(spec.get("leaseTransitions") or 0) + 1
        spec["holderIdentity"] = self._settings.identity
        spec["renewTime"] = now
        spec["leaseDurationSeconds"] = int(self._settings.lease_seconds)
        return {**lease, "spec": spec}

    async def _give_back(self) -> None:
        try:
            async with asyncio.timeout(2):
                lease = await self._cluster.get(LEASES, self._settings.operator_namespace, LEASE)
                if lease["spec"].get("holderIdentity") == self._settings.identity:
                    lease["spec"]["holderIdentity"] = ""
                    await self._cluster.replace(LEASES, self._settings.operator_namespace, lease)
        except (ClusterError, TimeoutError) as error:
            log.warning("the Lease was not given back: %s", repr(error))

    def _set(self, *, active: bool) -> None:
        if active != self.active:
            self.active = active
            LEADER.set(int(active))
            log.info("this operator is %s", "active" if active else "standing by")
            self._on_change(active)
