"""``/v1/tasks/{id}/files`` and ``/output``: what a task left, its caller's own alone."""

import json
import posixpath
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from corral_gateway.openapi import refusal
from corral_gateway.problems import ProblemError
from corral_gateway.tasks.files import files_of, find_execution, find_file, one_piece, stored_as
from corral_gateway.tasks.ranges import range_of
from corral_gateway.tasks.router import Reader, Runner, Tasks, not_there, there

router = APIRouter(prefix="/v1/tasks/{uid}", tags=["files"])

_Execution = Annotated[
    str | None,
    Query(max_length=63, description="Of this step; absent: of the last that has it."),
]
#: A tool wrote it, so a browser must take it for nothing but bytes to save.
_SAFE = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cache-Control": "private, no-store",
    "Accept-Ranges": "bytes",
}


#: What an execution has beside files.
_BYTES = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
_FILE: dict[int | str, dict[str, Any]] = {
    200: {"description": "All of it.", "content": _BYTES},
    206: {"description": "The part that was asked for.", "content": _BYTES},
    416: refusal(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE),
}
_OUTPUTS = ("stdout", "stderr", "result")


class FileEntry(BaseModel):
    """A file that an execution brought back."""

    execution: str = Field(description="The step; main for a task of one tool.")
    path: str = Field(description="Where it was, relative to the workspace.")
    size: int = Field(description="Bytes.")
    sha256: str | None = Field(None, description="SHA-256 of the content.")
    href: str | None = Field(None, description="Where the content is; absent: it was too large to be kept.")


class FileList(BaseModel):
    """What a task brought back."""

    items: list[FileEntry]


@router.get(
    "/files",
    operation_id="listTaskFiles",
    summary="List the files of a task",
    response_model_exclude_none=True,
)
async def find(caller: Reader, tasks: Tasks, uid: str) -> FileList:
    """List what the task's `outputs` brought back, in the order of its executions."""
    task = there(await tasks.get(uid, caller), uid)
    items = []
    for left in files_of(task):
        file, where = left.file, f"/v1/tasks/{uid}/files/{quote(left.file.path)}"
        items.append(
            FileEntry(
                execution=left.execution,
                path=file.path,
                size=file.size,
                sha256=file.sha256,
                href=f"{where}?execution={quote(left.execution)}" if left.is_kept else None,
            )
        )
    return FileList(items=items)


@router.delete(
    "/files",
    operation_id="removeTaskFiles",
    status_code=HTTPStatus.NO_CONTENT,
    summary="Remove the files of a task",
)
async def remove(caller: Runner, tasks: Tasks, uid: str) -> None:
    """Remove what the artifact store keeps of an ended task, what came with it included, and make room for others.

    Its status stays, with what stands in it; what was stored is from then on answered with 410.
    """
    if not await tasks.remove_files(uid, caller):
        raise not_there(uid)


@router.get(
    "/files/{path:path}",
    operation_id="getTaskFile",
    summary="Download a file of a task",
    response_class=StreamingResponse,
    responses=_FILE,
)
async def download(
    *,
    caller: Reader,
    tasks: Tasks,
    uid: str,
    path: str,
    execution: _Execution = None,
    range_header: Annotated[str | None, Header(alias="Range", description="bytes=FIRST-LAST")] = None,
) -> Response:
    """Return a file's content, or with `Range` a part of it."""
    task = there(await tasks.get(uid, caller), uid)
    left = find_file(task, path, execution)
    if left is None:
        raise ProblemError(HTTPStatus.NOT_FOUND, "FileNotFound", f"the task has no file {path[:200]}")
    if not left.is_kept:
        raise ProblemError(
            HTTPStatus.NOT_FOUND,
            "FileNotKept",
            f"{path[:200]} came back by name and size alone: it was too large",
        )
    file = left.file
    part = range_of(range_header, file.size)
    first, count = part or (0, file.size)
    data = file.data
    if data is not None:
        pieces = one_piece(data[first : first + count])
    else:
        pieces = await tasks.stored_file(task, left, first, count)
    headers = {"Content-Length": str(count), "ETag": f'"{file.sha256}"'}
    if part is not None:
        headers["Content-Range"] = f"bytes {first}-{first + count - 1}/{file.size}"
    return _answer(pieces, headers, posixpath.basename(path), partial=part is not None)


@router.get(
    "/output/{what}",
    operation_id="getTaskOutput",
    summary="Download what a task printed, or its result",
    response_class=StreamingResponse,
)
async def output(
    *,
    caller: Reader,
    tasks: Tasks,
    uid: str,
    what: str,
    execution: _Execution = None,
) -> Response:
    """Return all of it, also where it is too large for the status. What runs yet is followed by its events."""
    task = there(await tasks.get(uid, caller), uid)
    found = find_execution(task, execution)
    if what not in _OUTPUTS:
        raise ProblemError(
            HTTPStatus.NOT_FOUND, "OutputNotFound", f"{what[:64]} is none of {', '.join(_OUTPUTS)}"
        )
    if found is None:
        raise ProblemError(
            HTTPStatus.NOT_FOUND, "ExecutionNotFound", "the task has no such execution, or not yet"
        )
    media_type = "application/json" if what == "result" else "text/plain; charset=utf-8"
    kept = stored_as(found, what)
    if kept is not None:
        pieces = await tasks.stored_output_in_pieces(task, found, kept)
        return _answer(pieces, {"Content-Length": str(kept.size)}, what, media_type=media_type)
    if what == "result":
        data = json.dumps(found.result, ensure_ascii=False).encode("utf-8", "replace")
    else:
        printed = found.output
        text = "" if printed is None else printed.stdout if what == "stdout" else printed.stderr
        data = text.encode("utf-8", "replace")
    return _answer(one_piece(data), {"Content-Length": str(len(data))}, what, media_type=media_type)


def _answer(
    pieces: AsyncIterator[bytes],
    headers: dict[str, str],
    name: str,
    *,
    media_type: str = "application/octet-stream",
    partial: bool = False,
) -> Response:
    headers = {
        **_SAFE,
        **headers,
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}",
    }
    status = HTTPStatus.PARTIAL_CONTENT if partial else HTTPStatus.OK
    return StreamingResponse(pieces, status, headers, media_type)
