"""The client for asyncio programs."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from corral.api import AgentTask, Limits
from corral.catalogue import Catalogue
from corral.client.backends import BackendName, make_backend
from corral.client.executor import Executor
from corral.client.secrets import DirectorySecrets, SecretSource
from corral.client.task_run import CheckArguments, OnFile, OnFrame, OnStatus
from corral.client.tasks import Files, build_task
from corral.policy import LAPTOP_POLICY, Policy
from corral.sandbox.execution import ReadFile
from corral.sandbox.port import SandboxBackend


class AsyncClient:
    """Runs tasks in sandboxes on this machine. An asynchronous context manager, of one event loop.

    >>> async with AsyncClient() as client:
    ...     task = await client.run("python", code="6 * 7")
    ...     task.result
    42
    """

    def __init__(
        self,
        *,
        catalogue: Catalogue | None = None,
        policy: Policy | None = None,
        secrets: SecretSource | None = None,
        waiting: int = 2,
        backend: SandboxBackend | BackendName | None = None,
    ) -> None:
        """Prepare; nothing starts yet.

        Args:
            catalogue: the tools there are; the built-in ones by default.
            policy: what is allowed; by default everything but the network and the system.
            secrets: where the values of ``secretRefs`` come from.
            waiting: sandboxes kept started ahead of need, which makes the next task immediate; 0 for one task.
            backend: where sandboxes come from: ``embedded``, ``docker``, or one that is made already. None for what
                ``CORRAL_BACKEND`` says, or else ``embedded``. One that cannot be used is never replaced by another.

        Raises:
            IsolationUnavailableError: a part is not installed.
            ValueError: there is no backend of the name.
        """
        self.catalogue = catalogue if catalogue is not None else Catalogue.builtin()
        self._backend = (
            make_backend(backend, waiting=waiting) if backend is None or isinstance(backend, str) else backend
        )
        self._executor = Executor(
            self._backend, self.catalogue, policy or LAPTOP_POLICY, secrets or DirectorySecrets()
        )

    @property
    def backend_name(self) -> str:
        """``embedded`` or ``docker``."""
        return self._backend.name

    async def run(
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
        """Run one tool and return the task with its status; see ``build_task`` for the arguments.

        Arguments of the tool are keywords, or a mapping where their names are those of options here.

        Raises:
            pydantic.ValidationError: an option is not what the contract allows.
            IsolationUnavailableError: this machine cannot isolate, so nothing ran.
        """
        task = build_task(
            tool,
            {**(arguments or {}), **more_arguments},
            limits=limits,
            files=files,
            env=env,
            workspace=workspace,
            outputs=outputs,
        )
        return await self.run_task(task)

    async def run_task(
        self,
        task: AgentTask,
        *,
        on_frame: OnFrame | None = None,
        on_file: OnFile | None = None,
        on_status: OnStatus | None = None,
        read_file: ReadFile | None = None,
        cancel: asyncio.Event | None = None,
        secrets: SecretSource | None = None,
        policy: Policy | None = None,
        check: CheckArguments | None = None,
    ) -> AgentTask:
        """Run a task and return it with its status; see ``Executor.run``."""
        return await self._executor.run(
            task,
            on_frame=on_frame,
            on_file=on_file,
            on_status=on_status,
            read_file=read_file,
            cancel=cancel,
            secrets=secrets,
            policy=policy,
            check=check,
        )

    async def close(self) -> None:
        """End every sandbox and wait until nothing is left."""
        await self._backend.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
