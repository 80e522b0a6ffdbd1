"""The gateway's answers as values. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import Field, ValidationError

from corral.api import AgentTask, Tool
from corral.api.model import ApiModel
from corral.client.gateway.conversation import Answer
from corral.client.gateway.errors import AnswerError

_Model = TypeVar("_Model", bound=ApiModel)


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


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """Something that the gateway recorded."""

    seq: int
    #: RFC 3339, UTC.
    time: str
    #: Such as ``request.ended``, ``decision`` or ``execution``.
    kind: str
    #: All that it says, ``seq``, ``time`` and ``kind`` among it.
    record: Mapping[str, Any]
    #: What chains it to the one before it.
    hash: str
    previous: str


@dataclass(frozen=True, slots=True)
class AuditPage:
    """Some of the records, newest first."""

    items: tuple[AuditRecord, ...]
    after: int | None


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


def read_audit(answer: Answer) -> AuditPage:
    """Return the page of audit records that an answer is."""
    body = read_json(answer)
    after = body.get("after")
    return AuditPage(
        tuple(_audit_record(item) for item in items_of(body)), after if isinstance(after, int) else None
    )


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


def _audit_record(item: Any) -> AuditRecord:
    try:
        said = dict(item["record"])
        return AuditRecord(
            int(said["seq"]),
            str(said["time"]),
            str(said["kind"]),
            said,
            str(item["hash"]),
            str(item["previous"]),
        )
    except (KeyError, TypeError, ValueError):
        raise not_understood("it lists what is no record") from None


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
