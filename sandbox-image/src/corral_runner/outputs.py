"""The files of a finished execution that go back to its owner."""

from corral_runner.frames import as_base64
from corral_runner.report import clean
from corral_runner.workspace import Refused, Workspace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral_runner.execution import Execution
    from corral_runner.frames import FrameBuffer

#: A result names each file; so many names fit into a line of the protocol.
_MOST_FILES = 1000
_MOST_PATH_CHARACTERS = 1024


def send(workspace: Workspace, execution: "Execution", frames: "FrameBuffer") -> "list[dict[str, Any]]":
    """Append the frames of every file that matches; returns what became of each, for the result."""
    if not execution.outputs:
        return []
    room = execution.outputs_limit_bytes
    files: list[dict[str, Any]] = []
    found = workspace.find(execution.outputs)
    for path in found[:_MOST_FILES]:
        size, why = _send_one(workspace, path, room, frames)
        if why is not None:
            files.append({"path": clean(path, _MOST_PATH_CHARACTERS), "size": size, "skipped": why})
        else:
            room -= size
            files.append({"path": path, "size": size})
    if len(found) > _MOST_FILES:
        why = f"{len(found) - _MOST_FILES} more files match, and at most {_MOST_FILES} are sent back"
        files.append({"path": clean(found[_MOST_FILES], _MOST_PATH_CHARACTERS), "size": 0, "skipped": why})
    return files


def _send_one(workspace: Workspace, path: str, room: int, frames: "FrameBuffer") -> "tuple[int, str | None]":
    """Return the file's size, and why it was not sent, None if it was."""
    if clean(path, _MOST_PATH_CHARACTERS) != path:
        return 0, f"its path is not UTF-8, or of more than {_MOST_PATH_CHARACTERS} characters"
    try:
        size, mode, chunks = workspace.read(path)
    except Refused as error:
        return 0, str(error)
    if size > room:
        chunks.close()
        return size, f"{size} bytes, and {room} are left of the outputs limit"
    left = size
    for data in chunks:
        left -= len(data)
        encoded = as_base64(data)["base64"]
        frames.append("file", path=path, size=size, mode=mode, data=encoded, last=left <= 0)
    if left > 0 or size == 0:
        frames.append("file", path=path, size=size, mode=mode, data="", last=True)
    return size, None
