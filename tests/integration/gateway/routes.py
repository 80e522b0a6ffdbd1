"""Every route of the gateway, with what it needs. A new route has its line here, or the tests say so by its name."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI

from corral_gateway.identity.roles import Scope

#: What is open to everybody; a new route is closed, or is put here on purpose.
OPEN = {"/health", "/ready", "/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json"}
#: What /docs and /redoc are made of.
PAGES = "/static-offline-docs"


@dataclass(frozen=True)
class Entry:
    """What one route needs."""

    #: None: no more than to be somebody who is known.
    scope: Scope | None
    #: Names in the path that are of something that belongs to a caller, and of what it is.
    owned: dict[str, str] = field(default_factory=dict)
    #: Names in the path that belong to nobody, with one that there is.
    shared: dict[str, str] = field(default_factory=dict)
    #: A body that it takes, for routes that look at it before they look at whose it is.
    body: Any = None


_OWN_TASK = {"uid": "task"}
_TASK = {"tool": "calculator", "arguments": {"expression": "6*7"}}

ROUTES: dict[tuple[str, str], Entry] = {
    ("GET", "/v1/audit"): Entry(Scope.AUDIT_READ),
    ("GET", "/v1/whoami"): Entry(None),
    ("GET", "/v1/budget"): Entry(Scope.TASKS_READ),
    ("GET", "/v1/tasks"): Entry(Scope.TASKS_READ),
    ("POST", "/v1/tasks"): Entry(Scope.TASKS_RUN, body=_TASK),
    ("GET", "/v1/tasks/{uid}"): Entry(Scope.TASKS_READ, owned=_OWN_TASK),
    ("DELETE", "/v1/tasks/{uid}"): Entry(Scope.TASKS_RUN, owned=_OWN_TASK),
    ("GET", "/v1/tasks/{uid}/events"): Entry(Scope.TASKS_READ, owned=_OWN_TASK),
    ("GET", "/v1/tasks/{uid}/files"): Entry(Scope.TASKS_READ, owned=_OWN_TASK),
    ("DELETE", "/v1/tasks/{uid}/files"): Entry(Scope.TASKS_RUN, owned=_OWN_TASK),
    ("GET", "/v1/tasks/{uid}/files/{path}"): Entry(Scope.TASKS_READ, owned=_OWN_TASK, shared={"path": "out"}),
    ("GET", "/v1/tasks/{uid}/output/{what}"): Entry(
        Scope.TASKS_READ, owned=_OWN_TASK, shared={"what": "stdout"}
    ),
    ("GET", "/v1/tools"): Entry(Scope.TOOLS_READ),
    ("GET", "/v1/tools/{name}"): Entry(Scope.TOOLS_READ, shared={"name": "calculator"}),
    ("POST", "/v1/tools"): Entry(Scope.TOOLS_WRITE, body={}),
    ("PUT", "/v1/tools/{name}"): Entry(Scope.TOOLS_WRITE, shared={"name": "calculator"}, body={}),
    ("DELETE", "/v1/tools/{name}"): Entry(Scope.TOOLS_WRITE, shared={"name": "calculator"}),
    ("GET", "/v1/tools/{name}/history"): Entry(Scope.TOOLS_WRITE, shared={"name": "calculator"}),
    ("GET", "/tools/list"): Entry(Scope.TOOLS_READ),
    ("POST", "/tools/execute"): Entry(
        Scope.TASKS_RUN, body={"tool_name": "calculator", "parameters": {"expression": "6*7"}}
    ),
}


def routes_of(app: FastAPI) -> set[tuple[str, str]]:
    """Return method and path of every route there is, documented or not, those of included routers too."""
    return {
        (method, path)
        for path, methods in _walk(app.routes, "")
        for method in methods - {"HEAD"}
        if path not in OPEN | {PAGES}
    }


def _walk(routes: Iterable[Any], prefix: str) -> list[tuple[str, set[str]]]:
    found: list[tuple[str, set[str]]] = []
    for route in routes:
        inner: Any = getattr(route, "original_router", None) or getattr(route, "app", None)
        # As it is documented: {path}, where the route itself says {path:path}.
        path = prefix + getattr(route, "path", "").replace(":path}", "}")
        if hasattr(route, "methods"):
            found.append((path, set(route.methods or {"GET"})))
        elif hasattr(inner, "routes"):
            found += _walk(inner.routes, path)
        else:
            # A mount or a socket whose inside nobody here can see: it must be named as it is.
            found.append((path, {type(route).__name__}))
    return found
