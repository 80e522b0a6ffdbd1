"""The client for programs without an event loop: the asynchronous one on a thread of its own."""

import asyncio
import os
import threading
from collections.abc import Coroutine, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from corral.api import AgentTask, Limits
from corral.client.asynchronous import AsyncClient
from corral.client.task_run import OnFile, OnFrame
from corral.client.tasks import Files

_T = TypeVar("_T")


class Client:
    """Runs tasks in sandboxes on this machine. A context manager; usable from several threads.

    >>> with Client() as client:
    ...     client.run("python", code="6 * 7").result
    42
    """

    def __init__(self, **options: Any) -> None:
        """Prepare; the options are those of ``AsyncClient``."""
        self._client = AsyncClient(**options)
        self._loop = asyncio.new_event_loop()
        # This thread must outlive every sandbox: they die with the thread that started them.
        self._thread = threading.Thread(target=self._loop.run_forever, name="corral", daemon=True)
        self._thread.start()
        self._closed = False

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
        **more_arguments: Any,
    ) -> AgentTask:
        """Run one tool; see ``AsyncClient.run``."""
        return self._wait(
            self._client.run(
                tool,
                arguments,
                limits=limits,
                files=files,
                env=env,
                workspace=workspace,
                outputs=outputs,
                **more_arguments,
            )
        )

    def run_task(
        self, task: AgentTask, *, on_frame: OnFrame | None = None, on_file: OnFile | None = None
    ) -> AgentTask:
        """Run a task; see ``AsyncClient.run_task``. The callbacks are called on the client's own thread."""
        return self._wait(self._client.run_task(task, on_frame=on_frame, on_file=on_file))

    def close(self) -> None:
        """End every sandbox and wait until nothing is left. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        self._wait(self._client.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _wait(self, work: Coroutine[Any, Any, _T]) -> _T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # an interrupted caller must not leave its task running
            raise
