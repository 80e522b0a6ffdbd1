"""The files of a finished execution that go back to its owner."""

from corral_runner.frames import as_base64
from corral_runner.jsonlines import encode
from corral_runner.report import clean
from corral_runner.workspace import Refused, Workspace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral_runner.execution import Execution
    from corral_runner.frames import FrameBuffer

#: A result names each file, and what was skipped once more in the reason. Beside a tool's value of 256 KiB, so much
#: fits into a line of the protocol.
_MOST_FILES = 1000
_NAMES_BYTES = 256 * 1024
_MOST_PATH_CHARACTERS = 1024


def send(workspace: Workspace, execution: "Execution", frames: "FrameBuffer") -> "list[dict[str, Any]]":
    """Append the frames of every file that matches; returns what became of each, for the result."""
    if not execution.outputs:
        return []
    room = execution.outputs_limit_bytes
    files: list[dict[str, Any]] = []
    found = workspace.find(execution.outputs)
    told = _fitting(found)
    for path in told:
        size, why = _send_one(workspace, path, room, frames)
        if why is not None:
            files.append({"path": clean(path, _MOST_PATH_CHARACTERS), "size": size, "skipped": why})
        else:
            room -= size
            files.append({"path": path, "size": size})
    if len(found) > len(told):
        why = f"{len(found) - len(told)} more files match, and no more than {len(told)} fit into a result"
        files.append({"path": clean(found[len(told)], _MOST_PATH_CHARACTERS), "size": 0, "skipped": why})
    return files


def _fitting(paths: "list[str]") -> "list[str]":
    """Return the first paths, as many as a result can name."""
    room = _NAMES_BYTES
    for count, path in enumerate(paths[:_MOST_FILES]):
        room -= len(encode(path))
        if room < 0:
            return paths[:count]
    return paths[:_MOST_FILES]


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
