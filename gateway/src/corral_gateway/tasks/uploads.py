"""A task with its files in one request: ``multipart/form-data`` of a part ``task`` and of files."""

import asyncio
import hashlib
from base64 import b64encode
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, BinaryIO

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from corral.api import AgentTask, AgentTaskSpec
from corral_gateway.bodies import body_of, parse_json, read_json, too_large
from corral_gateway.manifests import reference
from corral_gateway.problems import ProblemError
from corral_gateway.services import services_of

#: As many as a spec may have.
_MOST_FILES = 64
#: Smaller files stand in the spec, as many as leave room for the rest of it.
_INLINE_BYTES, _ALL_INLINE_BYTES = 16 * 1024, 32 * 1024
_PIECE_BYTES = 256 * 1024


_TASK = {
    "description": "The spec of an AgentTask, or a whole manifest.",
    "anyOf": [reference(AgentTaskSpec), reference(AgentTask)],
}
_FORM = {
    "type": "object",
    "required": ["task"],
    "properties": {
        "task": {**_TASK, "description": "JSON: the spec of an AgentTask, or a whole manifest."},
        "file": {
            "type": "array",
            "items": {"type": "string", "format": "binary"},
            "description": "Files for the workspace; each one's filename is its path there.",
        },
    },
}
#: What OpenAPI is told of the body that ``task_request`` reads.
TASK_BODY = body_of(_TASK, {"tool": "calculator", "arguments": {"expression": "6*7"}})
TASK_BODY["requestBody"]["content"]["multipart/form-data"] = {"schema": _FORM}


@dataclass(frozen=True, slots=True)
class TaskRequest:
    """What a request asks for: the body of a task, and by their SHA-256 the files that are too large to stand in it."""

    body: Any
    contents: Mapping[str, BinaryIO] = field(default_factory=dict)


@asynccontextmanager
async def task_request(request: Request) -> AsyncIterator[TaskRequest]:
    """Read a request for a task, in either form. Its files are gone when the context ends.

    Raises:
        ProblemError: it is too large, or in no form that is known.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "multipart/form-data":
        yield TaskRequest(await read_json(request))
        return
    form = await _form(request)
    try:
        yield await _request(form, room=services_of(request).settings.max_request_size)
    finally:
        for _name, part in form:
            if isinstance(part, UploadFile):
                await part.close()


async def _form(request: Request) -> list[tuple[str, UploadFile | str]]:
    settings = services_of(request).settings
    # The library keeps what is larger than a megabyte on the disk while it is read.
    parser = MultiPartParser(
        request.headers,
        _limited(request, settings.upload_size),
        max_files=_MOST_FILES,
        max_fields=1,
        max_part_size=settings.max_request_size,
    )
    try:
        return (await parser.parse()).multi_items()
    except MultiPartException as error:
        raise ProblemError(
            HTTPStatus.BAD_REQUEST,
            "MalformedBody",
            f"the body is no multipart/form-data that is taken: {error.message}",
            remedy=f"send one part task with JSON, and at most {_MOST_FILES} files, their filenames their paths",
        ) from None


async def _limited(request: Request, most: int) -> AsyncGenerator[bytes, None]:
    # The server has seen to it that this is a number.
    if int(request.headers.get("content-length", "0")) > most:
        raise too_large(most, "CORRAL_UPLOAD_SIZE")
    taken = 0
    async for chunk in request.stream():
        taken += len(chunk)
        if taken > most:
            raise too_large(most, "CORRAL_UPLOAD_SIZE")
        yield chunk


async def _request(form: list[tuple[str, UploadFile | str]], room: int) -> TaskRequest:
    """Put the files of a form into the task of its part ``task``."""
    body, files = None, []
    for name, part in form:
        if name == "task":
            text = part if isinstance(part, str) else await _text(part, room)
            body = parse_json(text)
        elif isinstance(part, UploadFile):
            files.append(part)
        else:
            raise _wrong(f"the part {name[:64]!r} is neither the task nor a file")
    if body is None:
        raise _wrong("there is no part task")
    spec = body["spec"] if isinstance(body, dict) and isinstance(body.get("spec"), dict) else body
    if not isinstance(spec, dict) or not isinstance(spec.get("files", []), list):
        return TaskRequest(body)  # which is refused for what it is
    entries, contents, inline = list(spec.get("files", [])), {}, 0
    for part in files:
        small = part.size is not None and part.size <= min(_INLINE_BYTES, _ALL_INLINE_BYTES - inline)
        if small:
            data = await part.read()
            inline += len(data)
            entries.append({"path": part.filename or "", "contentBase64": b64encode(data).decode("ascii")})
        else:
            sha256 = await asyncio.to_thread(_sha256, part.file)
            contents[sha256] = part.file
            entries.append({"path": part.filename or "", "artifact": f"sha256:{sha256}"})
    spec["files"] = entries
    return TaskRequest(body, contents)


async def _text(part: UploadFile, room: int) -> bytes:
    if part.size is None or part.size > room:
        raise too_large(room, "MAX_REQUEST_SIZE")
    return await part.read()


def _sha256(file: BinaryIO) -> str:
    file.seek(0)
    digest = hashlib.sha256()
    while piece := file.read(_PIECE_BYTES):
        digest.update(piece)
    return digest.hexdigest()


def _wrong(message: str) -> ProblemError:
    return ProblemError(
        HTTPStatus.BAD_REQUEST,
        "MalformedBody",
        message,
        remedy="send one part task with JSON, and files, their filenames their paths in the workspace",
    )
