"""The port that every backend implements: a place where one owner's executions run, and nothing else."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self

from corral.api import Frame, ResolvedLimits


@dataclass(frozen=True, slots=True)
class Owner:
    """Whom a sandbox serves for its whole life."""

    uid: str
    attempt: int = 1

    def to_runner(self) -> dict[str, Any]:
        """Return it as requests carry it."""
        return {"uid": self.uid, "attempt": self.attempt}


@dataclass(frozen=True, slots=True)
class ExecutionRequest:
    """One execution, with everything decided: the arguments are valid, the policy has allowed it."""

    id: str
    owner: Owner
    #: ``{"builtin": …}``, ``{"function": …}`` or ``{"command": […]}``, as in docs/runner-protocol.md.
    run: Mapping[str, Any]
    limits: ResolvedLimits
    arguments: Mapping[str, Any] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    #: Variables whose values the sandbox was given when it was made, as ``CORRAL_SECRET_NAME``.
    secret_env: tuple[str, ...] = ()
    network: Literal["none", "open"] = "none"
    permissions: tuple[str, ...] = ("read",)
    allowed_paths: tuple[str, ...] = (".",)
    #: Glob patterns of workspace files to send back.
    outputs: tuple[str, ...] = ()
    outputs_limit_bytes: int = 16 << 20

    def to_runner(self) -> dict[str, Any]:
        """Return the ``start`` request."""
        secrets = {"secretEnv": self.secret_env} if self.secret_env else {}
        return {
            "op": "start",
            "owner": self.owner.to_runner(),
            "execution": {
                "id": self.id,
                "run": self.run,
                "arguments": self.arguments,
                "limits": self.limits.to_runner(),
                "env": self.env,
                "network": self.network,
                "permissions": self.permissions,
                "allowedPaths": self.allowed_paths,
                "outputs": self.outputs,
                "outputsLimitBytes": self.outputs_limit_bytes,
                **secrets,
            },
        }


@dataclass(frozen=True, slots=True)
class SandboxNeeds:
    """What a sandbox must have from its beginning."""

    #: Largest size of workspace, /tmp and /dev/shm together.
    disk_bytes: int
    #: A directory of this machine that becomes the workspace, None for an empty one that ends with the sandbox.
    workspace: Path | None = None
    workspace_read_only: bool = False
    #: The container image it is made of, None for the backend's own.
    image: str | None = None
    #: That image holds no runner: the one command of the request is the sandbox's own process.
    plain: bool = False


class Sandbox(Protocol):
    """A started, single-use sandbox. Every method may raise ``SandboxLostError``."""

    @property
    def warm(self) -> bool:
        """Whether it was started before it was asked for."""
        ...

    async def put(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Write a file into the workspace. Refusals arrive with the start: see ``RequestRefusedError``."""
        ...

    async def start(self, request: ExecutionRequest) -> None:
        """Start an execution. The same owner and id again starts nothing."""
        ...

    def frames(self, first: int = 0) -> AsyncIterator[Frame]:
        """Yield the frames from a number on, as they come, until the sandbox ends.

        Raises:
            RequestRefusedError: the runner refused a request.
            SandboxLostError: the connection ended.
        """
        ...

    async def cancel(self) -> None:
        """Ask the running execution to end; its result says ``Cancelled``."""
        ...

    async def get(self, path: str) -> bytes:
        """Read a file of the workspace while no tool runs.

        Raises:
            RequestRefusedError: it is missing, no regular file, or behind a symbolic link.
        """
        ...

    def kill(self) -> None:
        """End everything in the sandbox at once, whatever state its runner is in."""
        ...

    async def close(self) -> None:
        """End the sandbox and wait until nothing of it is left. Safe to call twice."""
        ...


class SandboxBackend(Protocol):
    """Where sandboxes come from."""

    @property
    def name(self) -> str:
        """``embedded``, ``docker`` or ``kubernetes``."""
        ...

    @property
    def weakened(self) -> tuple[str, ...]:
        """Layers that this backend was told to leave out."""
        ...

    async def acquire(self, needs: SandboxNeeds) -> Sandbox:
        """Give a sandbox that has served nobody.

        Raises:
            IsolationUnavailableError: this machine cannot isolate; nothing ran.
            SandboxStartError: it did not start; nothing ran.
        """
        ...

    def release(self, sandbox: Any) -> None:
        """End a sandbox that ``acquire`` gave, in the background; ``close`` waits for it."""
        ...

    async def close(self) -> None:
        """End every sandbox and wait until nothing is left."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
