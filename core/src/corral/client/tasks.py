"""Builds an AgentTask from a tool's name and arguments, as a person or a program would say it in one line."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from corral.api import AgentTask, AgentTaskSpec, EnvVar, InputFile, Limits, ObjectMeta, Workspace

#: A file's content: text or bytes.
Files = Mapping[str, str | bytes] | Sequence[InputFile]


def build_task(
    tool: str,
    arguments: Mapping[str, Any],
    *,
    limits: Limits | Mapping[str, Any] | None = None,
    files: Files = (),
    env: Mapping[str, str] | None = None,
    workspace: str | os.PathLike[str] | None = None,
    outputs: Sequence[str] = (),
    name: str | None = None,
) -> AgentTask:
    """Return the task.

    Args:
        tool: its name.
        arguments: as its input schema asks.
        limits: such as ``{"memory": "256Mi", "timeout": "5s"}``.
        files: put into the workspace first: paths and contents.
        env: the tool's environment variables.
        workspace: a directory of this machine to work in; a fresh one that goes away by default.
        outputs: patterns of workspace files to bring back.
        name: of the task; derived from the tool's by default.

    Raises:
        pydantic.ValidationError: a value is not what the contract allows.
    """
    if isinstance(files, Mapping):
        files = [_file(path, content) for path, content in files.items()]
    given: dict[str, Any] = {"tool": tool, "arguments": dict(arguments), "files": tuple(files)}
    if limits is not None:
        given["limits"] = limits if isinstance(limits, Limits) else Limits.model_validate(dict(limits))
    if env:
        given["env"] = tuple(EnvVar(name=key, value=value) for key, value in env.items())
    if workspace is not None:
        given["workspace"] = Workspace(host_path=str(Path(workspace).resolve()))
    if outputs:
        given["outputs"] = tuple(outputs)
    return AgentTask(
        metadata=ObjectMeta(name=name or tool.replace("_", "-")), spec=AgentTaskSpec.model_validate(given)
    )


def _file(path: str, content: str | bytes) -> InputFile:
    if isinstance(content, str):
        return InputFile(path=path, content=content)
    from base64 import b64encode

    return InputFile(path=path, content_base64=b64encode(content).decode("ascii"))
