"""``/v1/tasks``."""

import asyncio
import base64
import binascii
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from corral.api import AgentTask, Phase, Reason
from corral_gateway.http_door import allowed
from corral_gateway.identity.caller import Caller
from corral_gateway.identity.roles import Scope
from corral_gateway.manifests import ENDED_TASK, TaskManifest, reference
from corral_gateway.problems import ProblemError
from corral_gateway.services import services_of
from corral_gateway.tasks.events import HIGHEST_NUMBER, Event
from corral_gateway.tasks.intake import task_of, with_key
from corral_gateway.tasks.port import Cursor, TaskFilter
from corral_gateway.tasks.preferences import waiting_of
from corral_gateway.tasks.service import TaskService
from corral_gateway.tasks.stamps import is_made_of
from corral_gateway.tasks.uploads import TASK_BODY, task_request

router = APIRouter(prefix="/v1/tasks", tags=["tasks"])

#: Less than the idle timeout of any proxy that is in wide use.
_KEEP_ALIVE_SECONDS = 15.0
#: A page of the list is no longer, whatever the tasks have printed: some 2 MB of one is possible, times 500.
_MOST_PAGE_LETTERS = 4 << 20
#: So many tasks are read first of a page, then four times as many: it is not known before how large they are.
_FIRST_READ = 16
#: Who may look at tasks.
Reader = Annotated[Caller, Depends(allowed(Scope.TASKS_READ))]
Runner = Annotated[Caller, Depends(allowed(Scope.TASKS_RUN))]
_Wait = Annotated[str | None, Query(description="Answer when the task has ended, or after so long: 30s.")]
_Prefer = Annotated[
    list[str] | None, Header(description="RFC 7240: wait=SECONDS, as the parameter wait, and respond-async.")
]


#: What else than 202 a task that is taken in is answered with.
_ENDED: dict[int | str, dict[str, Any]] = {
    201: {
        "description": "It has ended.",
        "content": {"application/json": {"schema": reference(AgentTask), "example": ENDED_TASK}},
    }
}


_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {"description": "Events.", "content": {"text/event-stream": {}}}
}


class TaskList(BaseModel):
    """A page of tasks, newest first."""

    items: list[TaskManifest] = Field(description="AgentTasks.")
    after: str | None = Field(
        None, description="Give it back as `after` for the next page; absent on the last."
    )


async def tasks_of(request: Request) -> TaskService:
    """Return what takes tasks in."""
    return services_of(request).tasks


#: What takes them in.
Tasks = Annotated[TaskService, Depends(tasks_of)]


@router.post(
    "",
    status_code=HTTPStatus.ACCEPTED,
    operation_id="createTask",
    summary="Run a tool or a chain",
    openapi_extra=TASK_BODY,
    responses=_ENDED,
)
async def create(
    *,
    caller: Runner,
    tasks: Tasks,
    request: Request,
    response: Response,
    wait: _Wait = None,
    prefer: _Prefer = None,
    idempotency_key: Annotated[str | None, Header(description="The same key again is the same task.")] = None,
) -> TaskManifest:
    """Take a task in: the spec of an AgentTask, or a whole manifest.

    202 and the task as it was taken in; with `wait` or `Prefer: wait=N`, 201 and the task with its result if it has
    ended by then. With an `Idempotency-Key` that was sent before, the task that was made then, as it stands, and
    `Idempotency-Replayed`. As `multipart/form-data` it brings its files: a part `task`, and files whose filenames are
    their paths in the workspace.
    """
    waiting = waiting_of(wait, prefer or ())
    async with task_request(request) as sent:
        asked = task_of(sent.body, caller.name)
        if idempotency_key is not None:
            asked = with_key(asked, idempotency_key)
        task = await tasks.submit(asked, caller, sent.contents)
    if not is_made_of(asked, task):
        response.headers["Idempotency-Replayed"] = "true"
    if waiting.seconds:
        task = await tasks.wait(task.metadata.uid or "", caller, waiting.seconds) or task
    response.headers.update(waiting.headers)
    response.headers["Location"] = f"/v1/tasks/{task.metadata.uid}"
    response.status_code = HTTPStatus.CREATED if task.reason is not None else HTTPStatus.ACCEPTED
    return task.to_wire()


@router.get("", operation_id="listTasks", summary="List tasks", response_model=TaskList)
async def find(
    *,
    caller: Reader,
    tasks: Tasks,
    limit: Annotated[int, Query(ge=1, le=500, description="So many at most.")] = 50,
    after: Annotated[
        str | None, Query(max_length=200, description="What the page before said: `after`.")
    ] = None,
    phase: Annotated[Phase | None, Query(description="Only those that are in it.")] = None,
    tool: Annotated[str | None, Query(max_length=253, description="Only those that call it.")] = None,
    reason: Annotated[Reason | None, Query(description="Only those that ended with it.")] = None,
) -> Response:
    """List the caller's own tasks, newest first. A page of large tasks has fewer of them than `limit`."""
    cursor = None if after is None else _cursor(after)
    items: list[str] = []
    size, at_once, more = 0, _FIRST_READ, True
    while more and len(items) < limit and size < _MOST_PAGE_LETTERS:
        count = min(at_once, limit - len(items))
        found = await tasks.find(caller, TaskFilter(count + 1, cursor, phase, tool, reason))
        more = len(found) > count
        for task in found[:count]:
            items.append(json.dumps(task.to_wire(), separators=(",", ":")))
            size += len(items[-1])
            cursor = Cursor(_created(task), task.metadata.uid or "")
            if size >= _MOST_PAGE_LETTERS:
                more = more or task is not found[-1]
                break
        at_once *= 4
    behind = f',"after":"{_after(cursor)}"' if more and cursor is not None else ""
    return Response(f'{{"items":[{",".join(items)}]{behind}}}', media_type="application/json")


@router.get("/{uid}", operation_id="getTask", summary="Look at a task")
async def get(
    *, caller: Reader, tasks: Tasks, response: Response, uid: str, wait: _Wait = None, prefer: _Prefer = None
) -> TaskManifest:
    """Return a task as it stands, or, with `wait` or `Prefer: wait=N`, as soon as it has ended."""
    waiting = waiting_of(wait, prefer or ())
    response.headers.update(waiting.headers)
    found = await (tasks.wait(uid, caller, waiting.seconds) if waiting.seconds else tasks.get(uid, caller))
    return there(found, uid).to_wire()


@router.get(
    "/{uid}/events",
    operation_id="followTask",
    summary="Follow a task",
    response_class=StreamingResponse,
    responses=_EVENTS,
)
async def events(
    caller: Reader,
    tasks: Tasks,
    uid: str,
    last_event_id: Annotated[int, Header(ge=0, le=HIGHEST_NUMBER, description="Go on after this event.")] = 0,
) -> StreamingResponse:
    """Tell what happens to a task as server-sent events, from the first one or from the one after `Last-Event-ID`.

    `started`, `output`, `progress` and `ended` are of one execution each; `finished` is the last one.
    """
    found = await tasks.events(uid, caller, last_event_id)
    if found is None:
        raise not_there(uid)
    return StreamingResponse(
        _server_sent(found), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
    )


async def _server_sent(events: AsyncIterator[Event]) -> AsyncIterator[str]:
    """Return events in the form of the HTML standard; a comment now and then keeps proxies from hanging up."""
    loop = asyncio.get_running_loop()
    coming = None
    try:
        while True:
            coming = coming or loop.create_task(anext(events, None))
            await asyncio.wait([coming], timeout=_KEEP_ALIVE_SECONDS)
            if not coming.done():
                yield ": still here\n\n"
                continue
            event, coming = coming.result(), None
            if event is None:
                return
            yield f"id: {event.seq}\nevent: {event.kind}\ndata: {json.dumps(event.data)}\n\n"
    finally:
        if coming is not None:
            coming.cancel()


@router.delete("/{uid}", operation_id="cancelTask", status_code=HTTPStatus.ACCEPTED, summary="Cancel a task")
async def cancel(caller: Runner, tasks: Tasks, uid: str) -> TaskManifest:
    """Ask for a task's end; it then says `Cancelled`, with its output so far. One that has ended stays as it is."""
    return there(await tasks.cancel(uid, caller), uid).to_wire()


def there(task: AgentTask | None, uid: str) -> AgentTask:
    """Return a task that was found.

    Raises:
        ProblemError: it was not.
    """
    if task is None:
        raise not_there(uid)
    return task


def not_there(uid: str) -> ProblemError:
    """Return the refusal of a task that is not there, or another's."""
    return ProblemError(HTTPStatus.NOT_FOUND, "TaskNotFound", f"there is no task {uid[:64]}")


def _created(task: AgentTask) -> datetime:
    return datetime.fromisoformat(task.metadata.creation_timestamp or "").astimezone(UTC)


def _after(place: Cursor) -> str:
    text = json.dumps([place.created_at.isoformat(), place.uid])
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _cursor(text: str) -> Cursor:
    try:
        created_at, uid = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        return Cursor(datetime.fromisoformat(created_at).astimezone(UTC), str(uid))
    except (binascii.Error, ValueError, TypeError, OverflowError, RecursionError):
        raise _wrong("after", "this is not what a list gave") from None


def _wrong(field: str, message: str) -> ProblemError:
    return ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, "InvalidRequest", f"{field}: {message}")
