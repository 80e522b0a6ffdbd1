"""What of the host a caller's task can have: no directory but the one the settings give, no secrets but their own."""

from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from urllib.parse import quote

from corral.api import AgentTask, Problem, Reason, Tool, Workspace
from corral.client import DirectorySecrets, SecretMissingError, SecretSource
from corral_gateway.identity.caller import Caller
from corral_gateway.problems import ProblemError


class NoHostPaths:
    """A ``Guard``: no caller names a directory of the host.

    Not even one below WORKSPACE_ROOT: what runs there can make a symbolic link to anywhere, for the next task to name.
    """

    async def admit(self, task: AgentTask, _tools: Sequence[Tool], _caller: Caller) -> None:
        """Let a task through; see ``Guard``."""
        workspace = task.spec.workspace
        if workspace is not None and workspace.host_path is not None:
            field, message = "spec.workspace.hostPath", "callers of a gateway name no directory of its host"
            remedy = "leave it out, and send what the tool needs in spec.files"
            raise ProblemError(
                HTTPStatus.FORBIDDEN,
                Reason.PERMISSION_DENIED.value,
                f"{field}: {message}",
                remedy=remedy,
                problems=[Problem(field, message, remedy=remedy)],
            )

    def withdrawn(self, task: AgentTask, caller: Caller) -> None:
        """See ``Guard``: nothing was counted."""


def in_workspace(task: AgentTask, root: Path | None) -> AgentTask:
    """Return a task as it is run: where the settings name a workspace and it asks for no other, there."""
    if root is None or task.spec.workspace is not None:
        return task
    spec = task.spec.model_copy(update={"workspace": Workspace(host_path=str(root))})
    return task.model_copy(update={"spec": spec})


class CallerSecrets:
    """A ``SecretSource``: one caller's secrets, ``DIRECTORY/CALLER/NAME/KEY``, the caller percent-encoded."""

    def __init__(self, directory: Path | None, caller: str) -> None:
        self._source: SecretSource | None = None
        name = quote(caller, safe="")
        if directory is not None and name not in {"", ".", ".."}:
            self._source = DirectorySecrets(directory / name)

    def get(self, name: str, key: str) -> str:
        """Return a value; see ``SecretSource``."""
        if self._source is None:
            raise SecretMissingError(f"there is no secret {name} here: CORRAL_SECRETS names no directory")
        try:
            return self._source.get(name, key)
        except SecretMissingError:
            # Where secrets lie is not for callers to know.
            raise SecretMissingError(f"secret {name} has no key {key} for this caller") from None
