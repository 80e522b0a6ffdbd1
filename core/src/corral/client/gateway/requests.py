"""The gateway's routes as requests. Pure."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypedDict
from urllib.parse import quote

from corral.api import Phase, Reason, format_duration
from corral.client.gateway.conversation import Part, Request

_JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class Submission:
    """What is handed to a gateway."""

    #: A spec, or a whole manifest.
    body: Mapping[str, Any]
    #: Files that go beside it, by their paths in the workspace.
    uploads: Mapping[str, bytes] = field(default_factory=dict)
    #: The idempotency key; None: the client makes one.
    key: str | None = None


class AuditFilter(TypedDict, total=False):
    """Which audit records are wanted."""

    caller: str | None
    kind: str | None
    tool: str | None
    reason: str | None
    since: str | datetime | None
    until: str | datetime | None
    request_id: str | None
    task_id: str | None


# --- tasks ---


def create_task(asked: Submission, key: str, wait_seconds: float) -> Request:
    """Make a task of a spec or a manifest; the same key again is the same task."""
    headers, query = {"Idempotency-Key": key}, _wait(wait_seconds)
    if not asked.uploads:
        return Request("POST", "/v1/tasks", query, {**_JSON, **headers}, _json(asked.body))
    files = [Part("file", path, content) for path, content in asked.uploads.items()]
    return Request("POST", "/v1/tasks", query, headers, parts=(Part("task", None, _json(asked.body)), *files))


def get_task(uid: str, wait_seconds: float = 0) -> Request:
    """Look at a task, as soon as it has ended or after so long."""
    return Request("GET", _task(uid), _wait(wait_seconds))


def list_tasks(
    *, phase: Phase | str | None, tool: str | None, reason: Reason | str | None, limit: int, after: str | None
) -> Request:
    """List a page of tasks."""
    given = {"phase": phase, "tool": tool, "reason": reason, "limit": limit, "after": after}
    return Request(
        "GET", "/v1/tasks", tuple((name, str(value)) for name, value in given.items() if value is not None)
    )


def cancel_task(uid: str) -> Request:
    """Ask for a task's end."""
    return Request("DELETE", _task(uid))


def task_events(uid: str, after: int) -> Request:
    """Follow a task from the event after a number on."""
    headers = {"Accept": "text/event-stream"}
    return Request(
        "GET", f"{_task(uid)}/events", headers={**headers, "Last-Event-ID": str(after)} if after else headers
    )


def list_files(uid: str) -> Request:
    """List what a task brought back."""
    return Request("GET", f"{_task(uid)}/files")


def get_file(uid: str, path: str, execution: str | None) -> Request:
    """Fetch a file that a task brought back."""
    return Request("GET", f"{_task(uid)}/files/{quote(path)}", _execution(execution))


def remove_files(uid: str) -> Request:
    """Have the artifact store keep nothing of an ended task any more."""
    return Request("DELETE", f"{_task(uid)}/files")


def get_output(uid: str, what: str, execution: str | None) -> Request:
    """Fetch all that an execution printed, or its result."""
    return Request("GET", f"{_task(uid)}/output/{quote(what, safe='')}", _execution(execution))


# --- tools ---


def find_tools(
    query: str,
    *,
    categories: Collection[str],
    tags: Collection[str],
    exclude_dangerous: bool,
    max_results: int | None,
) -> Request:
    """Search tools."""
    asked = [("query", query)] if query else []
    asked += [("category", name) for name in categories] + [("tag", name) for name in tags]
    asked += [("exclude_dangerous", "true")] if exclude_dangerous else []
    asked += [("max_results", str(max_results))] if max_results is not None else []
    return Request("GET", "/v1/tools", tuple(asked))


def get_tool(name: str) -> Request:
    """Describe a tool."""
    return Request("GET", f"/v1/tools/{quote(name, safe='')}")


def execute_tool(name: str, parameters: Mapping[str, Any], key: str) -> Request:
    """Execute a tool; the same key again is the same call."""
    body = {"tool_name": name, "parameters": dict(parameters)}
    return Request("POST", "/tools/execute", headers={**_JSON, "Idempotency-Key": key}, body=_json(body))


def list_audit(wanted: AuditFilter, limit: int, after: int | None) -> Request:
    """List a page of audit records."""
    place = () if after is None else (("after", str(after)),)
    return Request("GET", "/v1/audit", (*_given(wanted), ("limit", str(limit)), *place))


def export_audit(wanted: AuditFilter, form: str) -> Request:
    """Have all audit records that fit, a line each, oldest first."""
    headers = {"Accept": "application/x-ndjson"}
    return Request("GET", "/v1/audit", (*_given(wanted), ("format", form)), headers)


def whoami() -> Request:
    """Ask who one is."""
    return Request("GET", "/v1/whoami")


def _json(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()


def _task(uid: str) -> str:
    return f"/v1/tasks/{quote(uid, safe='')}"


def _wait(seconds: float) -> tuple[tuple[str, str], ...]:
    # To the millisecond: an exact float may be longer than a duration may be.
    return (("wait", format_duration(max(round(seconds, 3), 0.001))),) if seconds else ()


def _execution(name: str | None) -> tuple[tuple[str, str], ...]:
    return () if name is None else (("execution", name),)


def _given(wanted: AuditFilter) -> tuple[tuple[str, str], ...]:
    given: dict[str, Any] = {"task" if name == "task_id" else name: value for name, value in wanted.items()}
    return tuple(
        (name, value.isoformat() if isinstance(value, datetime) else str(value))
        for name, value in given.items()
        if value is not None
    )
