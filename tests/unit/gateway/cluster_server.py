"""An API server in memory that gives tasks ids and times as a real one does, and ends them as the operator does."""

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from corral.api import Reason
from corral.cluster.port import AGENT_TASKS, Json, Resource
from unit.operator.api_server import ApiServer

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


class TaskServer(ApiServer):
    """A second lies between two tasks."""

    def put(self, resource: Resource, body: Mapping[str, Any]) -> Json:
        metadata = dict(body["metadata"])
        metadata.setdefault("uid", str(uuid.uuid4()))
        made = BEGIN + timedelta(seconds=self._version)
        metadata.setdefault("creationTimestamp", made.isoformat().replace("+00:00", "Z"))
        return super().put(resource, {**body, "metadata": metadata})

    def end(self, uid: str | None, reason: Reason = Reason.COMPLETED, **status: Any) -> None:
        """Do as the operator does."""
        body = next(one for one in self.objects.values() if one["metadata"]["uid"] == uid)
        phase = "Succeeded" if reason is Reason.COMPLETED else "Failed"
        told = {"phase": phase, "reason": reason.value, "completionTime": "2026-01-01T01:00:00Z", **status}
        self.put(AGENT_TASKS, {**body, "status": told})
