"""Running things in real sandboxes, for tests: a function of the test becomes the tool."""

import inspect
import textwrap
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

from corral.api import DEFAULT_LIMITS, ExecutionStatus, Frame, Output, ResolvedLimits
from corral.sandbox.execution import Record, execute
from corral.sandbox.port import ExecutionRequest, Owner, Sandbox, SandboxBackend, SandboxNeeds

MIB = 1 << 20
ALL = ("read", "write", "execute")
#: What a test gets that does not ask for something else. On an overloaded machine even what is soon done takes long.
LIMITS = replace(ResolvedLimits.of(DEFAULT_LIMITS), wall_seconds=100.0, cpu=2.0)

_numbers = count(1)


def function(tool: Callable[..., Any], *helpers: Callable[..., Any]) -> dict[str, Any]:
    """Make the ``run`` of a request out of a function whose source stands alone, and of what it calls."""
    sources = [textwrap.dedent(inspect.getsource(part)) for part in (*helpers, tool)]
    code = "\n".join(["from __future__ import annotations", *sources])
    return {"function": {"code": code, "entrypoint": tool.__name__}}


def shell(script: str, **more: Any) -> dict[str, Any]:
    """Make the ``run`` of a request out of a shell script."""
    return {"command": ["/bin/sh", "-c", script], **more}


def request(
    run: Mapping[str, Any], arguments: Mapping[str, Any] | None = None, **changes: Any
) -> ExecutionRequest:
    """Make a request of an owner of its own, with every permission; ``changes`` are fields, or of the limits."""
    number = next(_numbers)
    limits = {
        name: changes.pop(name) for name in list(changes) if name in ResolvedLimits.__dataclass_fields__
    }
    values: dict[str, Any] = {
        "id": f"e{number}",
        "owner": Owner(f"owner-{number}"),
        "permissions": ALL,
        **changes,
    }
    return ExecutionRequest(run=run, arguments=arguments or {}, limits=replace(LIMITS, **limits), **values)


@dataclass
class Outcome:
    """How an execution ended, and every frame of it."""

    status: ExecutionStatus
    record: Record
    frames: list[Frame] = field(default_factory=list)

    @property
    def reason(self) -> str:
        return str(self.status.reason)

    @property
    def result(self) -> Any:
        return self.status.result

    @property
    def stdout(self) -> str:
        return self.status.output.stdout if self.status.output else ""

    @property
    def stderr(self) -> str:
        return self.status.output.stderr if self.status.output else ""

    @property
    def limit(self) -> str | None:
        return self.status.limit.name if self.status.limit else None

    @property
    def denied(self) -> set[str]:
        """The refused calls, each with its detail behind a colon if it has one."""
        return {f"{denial.syscall}:{denial.detail}".rstrip(":") for denial in self.status.denials}

    def completed(self) -> Any:
        """Return the result of a tool that must have completed."""
        assert self.reason == "Completed", (self.reason, self.status.message, self.stderr)
        return self.result


class Lab:
    """Executions on one backend, each alone in a sandbox."""

    def __init__(self, backend: SandboxBackend) -> None:
        self.backend = backend

    @asynccontextmanager
    async def sandbox(
        self, workspace: Path | None = None, *, read_only: bool = False, disk_bytes: int = LIMITS.disk_bytes
    ) -> AsyncIterator[Sandbox]:
        """Give a sandbox, and end it."""
        sandbox = await self.backend.acquire(SandboxNeeds(disk_bytes, workspace, read_only))
        try:
            yield sandbox
        finally:
            self.backend.release(sandbox)

    async def run(self, what: ExecutionRequest, workspace: Path | None = None) -> Outcome:
        """Run a request in a sandbox of its own."""
        async with self.sandbox(workspace, disk_bytes=what.limits.disk_bytes) as sandbox:
            return await run_in(sandbox, what)

    async def call(self, tool: Callable[..., Any], *helpers: Callable[..., Any], **changes: Any) -> Outcome:
        """Run a function as the tool; ``arguments`` are its own, other ``changes`` as in ``request``."""
        workspace = changes.pop("workspace", None)
        return await self.run(request(function(tool, *helpers), **changes), workspace)

    async def shell(self, script: str, **changes: Any) -> Outcome:
        """Run a shell script as the tool."""
        return await self.run(request(shell(script), **changes))


async def run_in(sandbox: Sandbox, what: ExecutionRequest) -> Outcome:
    """Run a request in a sandbox that is there."""
    record = Record(what.id, "test", what.owner.attempt, datetime.now(UTC))
    frames: list[Frame] = []
    status = await execute(sandbox, what, record, on_frame=frames.append)
    return Outcome(status, record, frames)


async def until_printed(sandbox: Sandbox, text: str) -> list[Frame]:
    """Wait until a tool has printed a text; returns the frames until then."""
    seen: list[Frame] = []
    printed = ""
    async for frame in sandbox.frames():
        seen.append(frame)
        if isinstance(frame, Output):
            printed += frame.text
            if text in printed:
                return seen
    raise AssertionError(f"{text!r} was not printed, only {printed!r}")
