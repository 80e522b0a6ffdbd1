"""Events: what a person would want to know, in `kubectl describe`."""

import secrets
from functools import partial

from corral.api import time_text
from corral.cluster.port import EVENTS, Cluster, ObjectKey
from corral_operator.clock import Clock
from corral_operator.control.workers import Background
from corral_operator.decisions.actions import Tell
from corral_operator.settings import Settings

#: events.k8s.io refuses a longer note.
_MOST_NOTE = 1024


class Events:
    """Writes Events about tasks and pools, in the background: none of them is worth waiting for."""

    def __init__(self, cluster: Cluster, background: Background, clock: Clock, settings: Settings) -> None:
        self._cluster = cluster
        self._background = background
        self._clock = clock
        self._settings = settings

    def tell(self, about: ObjectKey, what: Tell, kind: str = "AgentTask") -> None:
        """Write an Event about an object."""
        body = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": f"{about.name[:200]}.{secrets.token_hex(8)}", "namespace": about.namespace},
            "eventTime": time_text(self._clock.now()),
            "reportingController": "corral.dev/operator",
            "reportingInstance": self._settings.identity[:128],
            "action": "Reconcile",
            "type": what.type,
            "reason": what.reason,
            "note": what.message[:_MOST_NOTE],
            "regarding": {
                "apiVersion": "corral.dev/v1alpha1",
                "kind": kind,
                "namespace": about.namespace,
                "name": about.name,
                "uid": about.uid,
            },
        }
        self._background.run(
            partial(self._cluster.create, EVENTS, about.namespace, body), "write an event", attempts=3
        )
