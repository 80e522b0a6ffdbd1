"""The gateway's routes as requests, and its answers as values. Pure."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import quote

from pydantic import Field, ValidationError

from corral.api import AgentTask, Phase, Reason, Tool, format_duration
from corral.api.model import ApiModel
from corral.client.gateway.conversation import Answer, Part, Request
from corral.client.gateway.errors import AnswerError

_Model = TypeVar("_Model", bound=ApiModel)
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


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What ``execute`` gives: the answer of ``POST /tools/execute``."""

    success: bool
    #: The tool's result, or what it printed where it has none.
    output: Any
    #: Why it did not end well.
    error: str | None


@dataclass(frozen=True, slots=True)
class TaskPage:
    """Some of a caller's tasks, newest first."""

    items: tuple[AgentTask, ...]
    #: Gives the next page; None: there is none.
    after: str | None


class Identity(ApiModel):
    """Who somebody is at a gateway, and what they may do there: the answer of ``GET /v1/whoami``."""

    name: str = Field(description="Whose tasks, files and events it sees.")
    role: str | None = Field(None, description="Absent where scopes were given one by one.")
    scopes: tuple[str, ...] = Field((), description="What it may do.")
    credential: str = Field("", description="How it proved itself.")
    credential_id: str = Field("", description="As the audit has it; nothing secret.")
    expires_at: str | None = Field(None, description="When the credential ends, where that is known.")
    namespace: str | None = Field(None, description="The tenant that it belongs to, where it says so itself.")
    granted_permissions: tuple[str, ...] = Field((), description="Beyond what everybody's tools may do.")
    tools: tuple[str, ...] | None = Field(
        None, description="The only tools that it may use; None: every one."
    )


@dataclass(frozen=True, slots=True)
class TaskFile:
    """A file that an execution brought back."""

    execution: str
    #: Relative to the workspace.
    path: str
    size: int
    #: It was not too large to be kept, so ``file`` returns it.
    is_kept: bool
    sha256: str | None = None


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


def execute_tool(name: str, parameters: Mapping[str, Any]) -> Request:
    """Execute a tool once. The route knows no idempotency key, so it is not sent a second time."""
    body = {"tool_name": name, "parameters": dict(parameters)}
    return Request("POST", "/tools/execute", headers=_JSON, body=_json(body), repeatable=False)


def whoami() -> Request:
    """Ask who one is."""
    return Request("GET", "/v1/whoami")


# --- answers ---


def read_task(answer: Answer) -> AgentTask:
    """Return the task that an answer is."""
    return _model(read_json(answer), AgentTask)


def read_tasks(answer: Answer) -> TaskPage:
    """Return the page of tasks that an answer is."""
    body = read_json(answer)
    after = body.get("after")
    return TaskPage(
        tuple(_model(item, AgentTask) for item in items_of(body)), after if isinstance(after, str) else None
    )


def read_files(answer: Answer) -> list[TaskFile]:
    """Return the files that an answer lists."""
    return [_file(item) for item in items_of(read_json(answer))]


def read_tool(answer: Answer) -> Tool:
    """Return the tool that an answer is."""
    return _model(read_json(answer), Tool)


def read_tools(answer: Answer) -> list[Tool]:
    """Return the tools that an answer is."""
    return [_model(item, Tool) for item in items_of(read_json(answer))]


def read_result(answer: Answer) -> ToolResult:
    """Return the result that an answer is."""
    body = read_json(answer)
    return ToolResult(bool(body.get("success")), body.get("output"), body.get("error"))


def read_identity(answer: Answer) -> Identity:
    """Return who an answer says that one is."""
    return _model(read_json(answer), Identity)


def read_value(answer: Answer) -> Any:
    """Return the JSON value that an answer is, of any kind.

    Raises:
        AnswerError: it is none.
    """
    try:
        return json.loads(answer.body)
    except (ValueError, RecursionError):
        raise not_understood("it is no JSON") from None


def read_json(answer: Answer) -> dict[str, Any]:
    """Return the JSON object that an answer is.

    Raises:
        AnswerError: it is none.
    """
    body = read_value(answer)
    if not isinstance(body, dict):
        raise not_understood("it is no JSON object")
    return body


def items_of(body: Mapping[str, Any]) -> list[Any]:
    """Return the items of a list.

    Raises:
        AnswerError: it has none.
    """
    items = body.get("items")
    if not isinstance(items, list):
        raise not_understood("it has no items")
    return items


def not_understood(why: str) -> AnswerError:
    """Return the error for an answer that is not what the gateway's document says."""
    return AnswerError(
        f"the answer cannot be understood: {why}",
        remedy="look whether the URL is that of a gateway, and of no newer version than this client",
    )


def _model(data: Any, model: type[_Model]) -> _Model:
    """Read a resource. A newer gateway may say more of it than this client knows."""
    try:
        return model.model_validate(data, extra="ignore", by_alias=True, by_name=False)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise not_understood(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def _file(item: Any) -> TaskFile:
    try:
        digest = item.get("sha256")
        return TaskFile(
            str(item["execution"]),
            str(item["path"]),
            int(item["size"]),
            "href" in item,
            digest and str(digest),
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        raise not_understood("it lists what is no file") from None


def _json(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()


def _task(uid: str) -> str:
    return f"/v1/tasks/{quote(uid, safe='')}"


def _wait(seconds: float) -> tuple[tuple[str, str], ...]:
    # To the millisecond: an exact float may be longer than a duration may be.
    return (("wait", format_duration(max(round(seconds, 3), 0.001))),) if seconds else ()


def _execution(name: str | None) -> tuple[tuple[str, str], ...]:
    return () if name is None else (("execution", name),)
