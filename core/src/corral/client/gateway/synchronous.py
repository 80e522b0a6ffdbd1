"""The gateway's client for programs without an event loop."""

import os
from collections.abc import Collection, Generator, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self, Unpack

from corral.api import AgentTask, Limits, Phase, Reason, Tool
from corral.client.gateway.answers import AuditRecord, Identity, TaskFile, ToolResult
from corral.client.gateway.events import LogText, TaskEvent
from corral.client.gateway.place import Place, import_httpx
from corral.client.gateway.requests import AuditFilter
from corral.client.gateway.retrying import Clock, Sender
from corral.client.gateway.submitting import submission, submission_of
from corral.client.gateway.talks import Gateway, OnFile, OnFrame
from corral.client.tasks import Files


class GatewayClient:
    """Runs tasks at a gateway. A context manager; usable from several threads.

    ``run`` and ``run_task`` are called as those of ``Client``.

    Every method sends again what a cut connection, a restart or a full gateway kept from being answered, where that
    cannot do a thing twice: tasks are made under idempotency keys. What is refused for good, raises.

    Raises:
        GatewayError: any method may; its classes say what happened and what to do.
    """

    def __init__(
        self, url: str | None = None, *, api_key: str | None = None, patience_seconds: float = 60.0
    ) -> None:
        """Prepare; nothing is sent yet.

        Args:
            url: such as ``http://127.0.0.1:8000``; by default ``CORRAL_GATEWAY``.
            api_key: or a token; by default ``CORRAL_API_KEY``.
            patience_seconds: so long a gateway that is away or has no room is asked again; one that has never
                answered, at most 5.

        Raises:
            ValueError: there is no URL, or one of them is none.
            NotInstalledError: ``corral[client]`` is not installed.
        """
        place = Place.of(url, api_key)
        httpx = import_httpx()
        from corral.client.gateway.performing import Performer

        self._http = httpx.Client(**place.options(httpx))
        self._line = Performer(self._http)
        clock = Clock()
        self._gateway = Gateway(Sender(clock, patience_seconds), clock)

    # --- as on this machine ---

    def run(
        self,
        tool: str,
        arguments: Mapping[str, Any] | None = None,
        /,
        *,
        limits: Limits | Mapping[str, Any] | None = None,
        files: Files = (),
        env: Mapping[str, str] | None = None,
        workspace: str | os.PathLike[str] | None = None,
        outputs: Sequence[str] = (),
        timeout: float | None = None,
        **more_arguments: Any,
    ) -> AgentTask:
        """Run one tool, and return the task with its result however long it takes; see ``Client.run``.

        Whatever ends the call before, an interruption or ``timeout`` seconds, cancels the task.
        """
        asked = submission(
            tool,
            {**(arguments or {}), **more_arguments},
            limits=limits,
            files=files,
            env=env,
            workspace=workspace,
            outputs=outputs,
        )
        return self._line.run(self._gateway.run(asked, timeout))

    def run_task(
        self,
        task: AgentTask,
        *,
        on_frame: OnFrame | None = None,
        on_file: OnFile | None = None,
        uploads: Mapping[str, bytes] | None = None,
        timeout: float | None = None,
    ) -> AgentTask:
        """Run a task to its end; see ``Client.run_task``. The callbacks are called on this thread.

        ``uploads`` are files that are too large to stand in the task, by their paths in the workspace.

        Frames carry no time and no process id: those are the gateway's own affair.
        """
        asked = submission_of(task, uploads)
        return self._line.run(self._gateway.run(asked, timeout, on_frame=on_frame, on_file=on_file))

    # --- tasks ---

    def submit(
        self,
        tool: str,
        arguments: Mapping[str, Any] | None = None,
        /,
        *,
        limits: Limits | Mapping[str, Any] | None = None,
        files: Files = (),
        env: Mapping[str, str] | None = None,
        workspace: str | os.PathLike[str] | None = None,
        outputs: Sequence[str] = (),
        **more_arguments: Any,
    ) -> AgentTask:
        """Have a tool's task taken in, and return it as it was: with its id, ``task.metadata.uid``."""
        asked = submission(
            tool,
            {**(arguments or {}), **more_arguments},
            limits=limits,
            files=files,
            env=env,
            workspace=workspace,
            outputs=outputs,
        )
        return self._line.run(self._gateway.submit(asked))

    def submit_task(self, task: AgentTask, *, uploads: Mapping[str, bytes] | None = None) -> AgentTask:
        """Have a task taken in: once, under its idempotency key or one that is made for it."""
        return self._line.run(self._gateway.submit(submission_of(task, uploads)))

    def wait(self, task_id: str, *, timeout: float | None = None) -> AgentTask:
        """Return a task when it has ended. ``timeout`` seconds end the waiting (``TimedOutError``), not the task."""
        return self._line.run(self._gateway.wait(task_id, timeout))

    def get(self, task_id: str) -> AgentTask:
        """Return a task as it stands."""
        return self._line.run(self._gateway.get(task_id))

    def tasks(
        self,
        *,
        phase: Phase | str | None = None,
        tool: str | None = None,
        reason: Reason | str | None = None,
        most: int | None = None,
    ) -> Generator[AgentTask, None, None]:
        """Iterate over the caller's tasks, newest first; pages are fetched as they are needed."""
        return self._line.iterate(self._gateway.tasks(phase, tool, reason, most))

    def cancel(self, task_id: str) -> AgentTask:
        """Ask for a task's end, and return it as it stands; ``wait`` returns it ended."""
        return self._line.run(self._gateway.cancel(task_id))

    def events(
        self, task_id: str, *, after: int = 0, follow: bool = True
    ) -> Generator[TaskEvent, None, None]:
        """Iterate over what happens to a task: each event once, in order, through cuts and restarts of the gateway.

        Args:
            task_id: of the task.
            after: the number of the last event that is known already.
            follow: go on to the task's end; else stop where nothing more has happened yet.
        """
        return self._line.iterate(self._gateway.events(task_id, after, follow=follow))

    def logs(self, task_id: str, *, follow: bool = True) -> Generator[LogText, None, None]:
        """Iterate over the text that a task's tools print, as it comes."""
        return self._line.iterate(self._gateway.logs(task_id, follow=follow))

    def files(self, task_id: str) -> list[TaskFile]:
        """Return what a task brought back, without the contents."""
        return self._line.run(self._gateway.files(task_id))

    def file(self, task_id: str, path: str, *, execution: str | None = None) -> bytes:
        """Return the content of a file that a task brought back: of a step, or of the last one that has it."""
        return self._line.run(self._gateway.file(task_id, path, execution))

    def remove_files(self, task_id: str) -> None:
        """Remove what the gateway's artifact store keeps of an ended task, for its bytes; the status stays."""
        self._line.run(self._gateway.remove_files(task_id))

    def output(
        self, task_id: str, what: Literal["stdout", "stderr", "result"], *, execution: str | None = None
    ) -> bytes:
        """Return all that a task printed, or its result as JSON, also where a status holds only its beginning."""
        return self._line.run(self._gateway.output(task_id, what, execution))

    # --- tools ---

    def tools(
        self,
        query: str = "",
        categories: Collection[str] = (),
        tags: Collection[str] = (),
        *,
        exclude_dangerous: bool = False,
        max_results: int | None = None,
    ) -> list[Tool]:
        """Return the tools that fit, best first; see ``Catalogue.discover``."""
        talk = self._gateway.tools(
            query, categories, tags, exclude_dangerous=exclude_dangerous, max_results=max_results
        )
        return self._line.run(talk)

    def tool(self, name: str) -> Tool:
        """Return a tool."""
        return self._line.run(self._gateway.tool(name))

    def execute(
        self, tool: str, parameters: Mapping[str, Any] | None = None, *, timeout: float | None = None
    ) -> ToolResult:
        """Execute a tool by ``POST /tools/execute``, the door of the Agent Core API, and return its result alone."""
        return self._line.run(self._gateway.execute(tool, parameters or {}, timeout))

    # --- the audit, for those who may ---

    def audit(
        self,
        *,
        most: int | None = None,
        **wanted: Unpack[AuditFilter],
    ) -> Generator[AuditRecord, None, None]:
        """Iterate over what the gateway recorded of everybody, newest first."""
        return self._line.iterate(self._gateway.audit(wanted, most))

    def audit_export(
        self,
        form: Literal["jsonl", "ocsf"] = "jsonl",
        **wanted: Unpack[AuditFilter],
    ) -> Generator[bytes, None, None]:
        """Iterate over the bytes of an export: JSON lines, oldest first, which ``corral audit verify --file`` checks.

        Raises:
            UnreachableError: it was cut off; what came is no whole export.
        """
        return self._line.iterate(self._gateway.audit_export(wanted, form))

    # --- who one is ---

    def whoami(self) -> Identity:
        """Return who the gateway takes one for, and what one may do there."""
        return self._line.run(self._gateway.whoami())

    def close(self) -> None:
        """Close the connections. Tasks go on."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
