"""A namespace with Pod Security `restricted` enforced, and what is done and seen in it."""

import uuid
from functools import cached_property
from typing import Any

from cluster.api import Api, ApiError, Object, kubectl
from cluster.watching import Watch
from eventually import eventually

#: A cold pod on a machine that does much else.
COLD_SECONDS = 90.0
_RESTRICTED = {
    "pod-security.kubernetes.io/enforce": "restricted",
    "pod-security.kubernetes.io/warn": "restricted",
}


class Tenant:
    """A namespace of one test's own."""

    def __init__(self, api: Api, name: str) -> None:
        """Make the namespace."""
        self.api = api
        self.name = name
        self._watches: list[Watch] = []
        body = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": dict(_RESTRICTED)},
        }
        api.create(body)

    @cached_property
    def tasks(self) -> Watch:
        """All that happens to tasks, from the first time that it is asked for."""
        return self._watch("AgentTask")

    @cached_property
    def pods(self) -> Watch:
        """All that happens to pods."""
        return self._watch("Pod")

    @cached_property
    def pools(self) -> Watch:
        """All that happens to pools."""
        return self._watch("SandboxPool")

    def _watch(self, kind: str) -> Watch:
        watch = Watch(self.api, kind, self.name)
        self._watches.append(watch)
        return watch

    # --- doing ---

    def create(self, kind: str, name: str, *, user: str | None = None, **fields: Any) -> Object:
        """Create an object of Corral's."""
        labels = fields.pop("labels", {})
        metadata = {"name": name, "labels": labels}
        body = {"apiVersion": "corral.dev/v1alpha1", "kind": kind, "metadata": metadata, **fields}
        return self.api.create(body, self.name, user=user)

    def start(
        self,
        tool: str | None = None,
        *,
        name: str | None = None,
        labels: dict[str, str] | None = None,
        user: str | None = None,
        **spec: Any,
    ) -> str:
        """Create a task and return its name. What is not a field of the spec by name is in ``spec``."""
        _ = self.tasks  # nothing of it is missed
        name = name or f"t-{uuid.uuid4().hex[:8]}"
        whole = {**({"tool": tool} if tool else {}), **spec}
        self.create("AgentTask", name, user=user, labels=labels or {}, spec=whole)
        return name

    def python(self, code: str, **spec: Any) -> str:
        """Create a task that runs Python code."""
        return self.start("python", arguments={"code": code}, **spec)

    def shell(self, command: str, **spec: Any) -> str:
        """Create a task that runs a shell command."""
        return self.start("shell", arguments={"command": command}, **spec)

    def run(self, tool: str | None = None, *, seconds: float = COLD_SECONDS, **spec: Any) -> Object:
        """Run a task to its end and return it."""
        return self.ended(self.start(tool, **spec), seconds=seconds)

    def tool(self, name: str, **spec: Any) -> None:
        """Register a tool."""
        spec.setdefault("description", "A tool of a test.")
        self.create("Tool", name, spec=spec)

    def pool(self, replicas: int, name: str = "pool", **spec: Any) -> None:
        """Make a pool and wait until all of it is ready."""
        _ = self.pools, self.pods
        self.create("SandboxPool", name, spec={"replicas": replicas, **spec})
        self.pool_is_full(replicas, name)

    def cancel(self, name: str) -> None:
        """Ask for the end of a task."""
        self.api.patch("AgentTask", self.name, name, {"spec": {"cancel": True}})

    # --- seeing ---

    def ended(self, name: str, *, seconds: float = COLD_SECONDS) -> Object:
        """Wait until a task has ended, and return it."""
        return self.tasks.until(lambda seen: _finished(seen.now.get(name)), seconds=seconds)

    def all_ended(self, names: list[str], *, seconds: float = COLD_SECONDS) -> list[Object]:
        """Wait until all tasks have ended, and return them."""
        return [self.ended(name, seconds=seconds) for name in names]

    def running(self, name: str, *, seconds: float = COLD_SECONDS) -> Object:
        """Wait until an execution of a task was given to a sandbox, and return the task."""

        def look(seen: Watch) -> Object | None:
            task = seen.now.get(name) or {}
            return task if (task.get("status") or {}).get("startTime") else None

        found = self.tasks.until(look, seconds=seconds)
        assert found is not None
        return found

    def has_begun(self, name: str) -> str:
        """Wait until a shell task has made the file ``begun``, and return its pod's name.

        What a tool has printed is told at its end only, so that it runs is seen from within its pod.
        """
        pod: str = self.running(name)["status"]["sandbox"]["podName"]
        self.kubectl("exec", pod, "--", "sh", "-c", "until [ -e /workspace/begun ]; do sleep 0.05; done")
        return pod

    def pool_is_full(self, replicas: int, name: str = "pool", *, seconds: float = 2 * COLD_SECONDS) -> Object:
        """Wait until a pool has so many sandboxes ready and no more; return the pool."""

        def look(seen: Watch) -> Object | None:
            pool = seen.now.get(name) or {}
            status = pool.get("status") or {}
            now = status.get("observedGeneration") == (pool.get("metadata") or {}).get("generation")
            # The status is written once a second at most, so the pods themselves are looked at, too.
            there = len(self._unused(name)) == replicas
            return (
                pool if now and there and status.get("ready") == status.get("replicas") == replicas else None
            )

        _ = self.tasks, self.pods
        found = self.pools.until(look, seconds=seconds, pause=0.2)
        assert found is not None
        return found

    def _unused(self, pool: str) -> list[Object]:
        """Return the ready pods of a pool that no task was given."""
        used = {
            (execution.get("sandbox") or {}).get("podUID")
            for task in self.tasks.current()
            for execution in (task.get("status") or {}).get("executions", ())
        }
        return [
            pod for pod in self.pods.current() if _is_ready(pod, pool) and pod["metadata"]["uid"] not in used
        ]

    def waiting_pod(self, pool: str = "pool") -> Object:
        """Wait for a ready pod that no task was given, and return it."""
        return eventually(lambda: self._unused(pool), seconds=COLD_SECONDS)[0]

    def no_pod_left(self, *, seconds: float = COLD_SECONDS) -> None:
        """Wait until no pod is there."""
        self.pods.until(lambda seen: not seen.now, seconds=seconds)

    def notes(self, name: str) -> list[tuple[str, str]]:
        """Return reason and note of the Events about a task or a pool."""
        events = self.api.list("Event", self.name)
        return [
            (e["reason"], e.get("note", "")) for e in events if e.get("regarding", {}).get("name") == name
        ]

    def noted(self, name: str, reason: str) -> str:
        """Wait for an Event, and return its note."""
        found = eventually(lambda: [note for why, note in self.notes(name) if why == reason])
        return found[0]

    def kubectl(self, *arguments: str, stdin: str | None = None, fails: bool = False) -> str:
        """Run kubectl in the namespace."""
        return kubectl("--namespace", self.name, *arguments, stdin=stdin, fails=fails)

    def refused(self, spec: Any, kind: str = "AgentTask") -> str:
        """Return what the API server says against an object."""
        try:
            self.create(kind, f"refused-{uuid.uuid4().hex[:6]}", spec=spec)
        except ApiError as error:
            return error.message
        raise AssertionError(f"the API server took {spec}")

    def delete(self) -> None:
        """Delete the namespace; its end is not waited for."""
        for watch in self._watches:
            watch.close()
        self.api.delete("Namespace", "", self.name)


def _is_ready(pod: Object, pool: str) -> bool:
    metadata, conditions = pod["metadata"], (pod.get("status") or {}).get("conditions") or ()
    ready = any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
    return ready and "deletionTimestamp" not in metadata and metadata["labels"].get("corral.dev/pool") == pool


def _finished(task: Object | None) -> Object | None:
    return task if task is not None and (task.get("status") or {}).get("completionTime") else None


def main_of(task: Object) -> Object:
    """Return the only execution of a task of one tool."""
    executions: list[Object] = task["status"]["executions"]
    assert [execution["name"] for execution in executions] == ["main"], executions
    return executions[0]


def reason_of(task: Object) -> str:
    """Return why a task ended."""
    reason: str = task["status"]["reason"]
    return reason


def condition_of(found: Object, kind: str) -> Object:
    """Return a condition of a status."""
    conditions: list[Object] = found["status"]["conditions"]
    (one,) = [condition for condition in conditions if condition["type"] == kind]
    return one
