"""What the tests submit: tools whose calls say who they are, pools, and batches of every kind of task."""

from collections.abc import Iterable
from typing import Any

from faults.cluster import SANDBOX_IMAGE

Json = dict[str, Any]

_API = "corral.dev/v1alpha1"
#: Tools that are declared idempotent.
REPEATABLE = ("again", "program")
#: Tools of the tests; ``once`` and ``again`` differ in nothing but that declaration.
_COMMAND = ["/bin/sh", "-c", 'sleep "$1"; echo "$2"', "sh", "$(arguments.seconds)", "$(arguments.token)"]
#: Long enough that the recorder, which learns of a pod when the operator does, is connected while it runs.
SECONDS = "0.5"


def tool(name: str, *, idempotent: bool, image: str | None = None) -> Json:
    """Return a tool that sleeps and then prints its token."""
    schema = {
        "type": "object",
        "required": ["seconds", "token"],
        "properties": {"seconds": {"type": "string"}, "token": {"type": "string"}},
    }
    command: Json = {"argv": _COMMAND, "resultFormat": "Text"}
    if image is not None:
        command["image"] = image
    return {
        "apiVersion": _API,
        "kind": "Tool",
        "metadata": {"name": name},
        "spec": {
            "description": "Sleep, then print a token.",
            "permissions": ["read", "execute"],
            "idempotent": idempotent,
            "inputSchema": schema,
            "run": {"command": command},
        },
    }


def tools() -> list[Json]:
    """Return the tools: what may run once, what may run again; with a runner, and in an image of its own."""
    return [
        tool("once", idempotent=False),
        tool("again", idempotent=True),
        tool("program", idempotent=True, image=SANDBOX_IMAGE),
        tool("program-once", idempotent=False, image=SANDBOX_IMAGE),
    ]


def pool(replicas: int, *, name: str = "pool", when_empty: str = "Cold") -> Json:
    """Return a pool of ordinary sandboxes."""
    return {
        "apiVersion": _API,
        "kind": "SandboxPool",
        "metadata": {"name": name},
        "spec": {"replicas": replicas, "whenEmpty": when_empty, "refill": {"perSecond": 5, "burst": 10}},
    }


def task(name: str, spec: Json, *, labels: dict[str, str] | None = None) -> Json:
    """Return a task."""
    metadata: Json = {"name": name, "labels": labels or {}}
    return {"apiVersion": _API, "kind": "AgentTask", "metadata": metadata, "spec": spec}


def call(name: str, tool_name: str = "once", *, seconds: str = SECONDS, **spec: Any) -> Json:
    """Return a task of one call; its result is its name."""
    return task(name, {"tool": tool_name, "arguments": {"seconds": seconds, "token": name}, **spec})


def cold(name: str, tool_name: str = "once", **spec: Any) -> Json:
    """Return a task that no pool's sandbox is large enough for."""
    return call(name, tool_name, limits={"memory": "768Mi"}, **spec)


def chain(name: str) -> Json:
    """Return two steps, the second of which prints what the first did."""
    first = {"name": "a", "tool": "once", "arguments": {"seconds": "0.3", "token": name}}
    second = {"name": "b", "tool": "once", "arguments": {"seconds": "0.3", "token": "$(steps.a.result)"}}
    return task(name, {"steps": [first, second]})


def retried(name: str) -> Json:
    """Return a task whose first attempt loses its pod, taken away by the harness, and that may run twice."""
    retry = {"maxAttempts": 3, "backoff": "100ms"}
    body = cold(name, "again", seconds="2", retry=retry)
    body["metadata"]["labels"] = {"faults/retry": "once"}
    return body


def pairs(prefix: str) -> list[Json]:
    """Return two tasks that ask for a retry, of a tool that may run twice and of one that may not."""
    retry = {"maxAttempts": 2, "backoff": "100ms"}
    return [call(f"{prefix}-{name}", name, seconds="10", retry=retry) for name in ("again", "once")]


def batch(
    prefix: str, *, warm: int = 3, own: int = 2, chains: int = 1, retries: int = 1, programs: int = 1
) -> list[Json]:
    """Return tasks of every kind."""
    return [
        *(call(f"{prefix}-warm-{n}") for n in range(warm)),
        *(cold(f"{prefix}-cold-{n}") for n in range(own)),
        *(chain(f"{prefix}-chain-{n}") for n in range(chains)),
        *(retried(f"{prefix}-retry-{n}") for n in range(retries)),
        *(
            call(f"{prefix}-program-{n}", "program", limits={"memory": "64Mi", "cpu": "500m"})
            for n in range(programs)
        ),
    ]


def results(tasks: Iterable[Json]) -> dict[str, str]:
    """Return what each task's last execution is to have printed, by task."""
    return {one["metadata"]["name"]: one["metadata"]["name"] for one in tasks}
