"""The embedded backend: sandboxes on this machine, with no daemon, no root and no cluster."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import Self

from corral.api import Frame
from corral.sandbox.bubblewrap import Installation, Launch
from corral.sandbox.errors import SandboxError
from corral.sandbox.nursery import Cell, Nursery
from corral.sandbox.port import ExecutionRequest, SandboxNeeds
from corral.sandbox.profile import DEFAULT_PROFILE, Profile

#: Imported in the nursery while it is idle, so that no tool has to: what small Python tools commonly use.
PRELOAD = (
    "corral_tools.python",
    "json",
    "re",
    "math",
    "random",
    "datetime",
    "collections",
    "itertools",
    "functools",
    "dataclasses",
    "typing",
    "io",
    "string",
    "statistics",
    "subprocess",
    "traceback",
)

#: Most small tasks have ended by then, and the end of one starts a refill at once.
_REFILL_DELAY_SECONDS = 0.02


class EmbeddedSandbox:
    """A cell, behind the ``Sandbox`` port."""

    def __init__(self, cell: Cell, *, warm: bool) -> None:
        self._cell = cell
        self._warm = warm
        self._gone: asyncio.Task[None] | None = None

    @property
    def warm(self) -> bool:
        return self._warm

    async def put(self, path: str, data: bytes, mode: int = 0o644) -> None:
        await self._cell.channel.put(path, data, mode)

    async def start(self, request: ExecutionRequest) -> None:
        await self._cell.channel.start(request)

    def frames(self, first: int = 0) -> AsyncIterator[Frame]:
        return self._cell.channel.frames(first)

    async def cancel(self) -> None:
        await self._cell.channel.send({"op": "cancel"})

    async def get(self, path: str) -> bytes:
        return await self._cell.channel.get(path)

    def kill(self) -> None:
        self._cell.kill()

    def end(self) -> "asyncio.Task[None]":
        """Kill it and return the task that waits for the last of it."""
        if self._gone is None:
            self._cell.kill()
            self._gone = asyncio.get_running_loop().create_task(self._cell.gone())
        return self._gone

    async def close(self) -> None:
        with suppress(SandboxError):
            await asyncio.shield(self.end())


class EmbeddedBackend:
    """Single-use sandboxes out of one nursery, with some of them started ahead.

    Use as an asynchronous context manager, within one event loop.
    """

    name = "embedded"

    def __init__(
        self,
        *,
        waiting: int = 2,
        profile: Profile = DEFAULT_PROFILE,
        installation: Installation | None = None,
    ) -> None:
        """Prepare; nothing starts yet.

        Args:
            waiting: how many sandboxes are kept started ahead of need; 0 for a single task.
            profile: what isolates; weaker ones are for tests.
            installation: where the parts are; those of the running interpreter by default.

        Raises:
            IsolationUnavailableError: a part is not installed.
        """
        self._size = waiting
        self._profile = profile
        self._installation = installation or Installation.of_this_process()
        self._nursery: Nursery | None = None
        #: One for each sandbox with a directory of the host as its workspace.
        self._own_nurseries: dict[EmbeddedSandbox, Nursery] = {}
        self._waiting: deque[Cell] = deque()
        self._live: set[EmbeddedSandbox] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self._refill: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def weakened(self) -> tuple[str, ...]:
        return self._profile.weakened

    async def acquire(self, needs: SandboxNeeds) -> EmbeddedSandbox:
        """Give a sandbox; see ``SandboxBackend.acquire``."""
        if self._closed:
            raise SandboxError("this backend is closed")
        if needs.workspace is not None:
            return await self._with_workspace(needs)
        while self._waiting:
            cell = self._waiting.popleft()
            if cell.channel.lost is None:
                return self._given(cell, warm=True)
        return self._given(await self._shared_nursery().cell(), warm=False)

    async def warm_up(self) -> None:
        """Start the sandboxes that wait, and return when they do.

        Raises:
            IsolationUnavailableError: this machine cannot isolate.
            SandboxStartError: they did not start.
        """
        while len(self._waiting) < self._size:
            self._waiting.append(await self._shared_nursery().cell())
        for cell in list(self._waiting):
            await asyncio.shield(cell.made)
            async for _ready in cell.channel.frames():
                break

    def release(self, sandbox: EmbeddedSandbox) -> None:
        """End a sandbox in the background; ``close`` of the backend waits for it."""
        self._live.discard(sandbox)
        self._track(sandbox.end())
        self._start_refill()
        own = self._own_nurseries.pop(sandbox, None)
        if own is not None:
            self._track(asyncio.get_running_loop().create_task(own.close()))

    async def close(self) -> None:
        """End everything and wait until nothing is left. Safe to call twice."""
        self._closed = True
        if self._refill is not None:
            self._refill.cancel()
        for sandbox in list(self._live):
            self.release(sandbox)
        for cell in self._waiting:
            self._track(EmbeddedSandbox(cell, warm=True).end())
        self._waiting.clear()
        if self._ending:
            await asyncio.wait(self._ending, timeout=5)
        if self._nursery is not None:
            nursery, self._nursery = self._nursery, None
            await nursery.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _given(self, cell: Cell, *, warm: bool) -> EmbeddedSandbox:
        sandbox = EmbeddedSandbox(cell, warm=warm)
        self._live.add(sandbox)
        if self._waiting:
            # Making the next one takes the cores that this task is about to use: wait for a quieter moment.
            asyncio.get_running_loop().call_later(_REFILL_DELAY_SECONDS, self._start_refill)
        else:
            self._start_refill()
        return sandbox

    def _start_refill(self) -> None:
        if (
            not self._closed
            and len(self._waiting) < self._size
            and (self._refill is None or self._refill.done())
        ):
            self._refill = asyncio.get_running_loop().create_task(self._fill())

    async def _fill(self) -> None:
        with suppress(SandboxError):  # whoever needs the next sandbox is told why there is none
            while len(self._waiting) < self._size and not self._closed:
                cell = await self._shared_nursery().cell()
                self._waiting.append(cell)
                # One at a time: the nursery makes them one after the other, and a task may be waiting for it.
                await asyncio.shield(cell.made)

    def _shared_nursery(self) -> Nursery:
        if self._nursery is None or self._nursery.ended is not None:
            launch = Launch("nursery", 0, PRELOAD if self._size else ())
            self._nursery = Nursery.start(self._installation, launch, self._profile)
        return self._nursery

    async def _with_workspace(self, needs: SandboxNeeds) -> EmbeddedSandbox:
        launch = Launch("nursery", 0, (), needs.workspace, needs.workspace_read_only)
        nursery = Nursery.start(self._installation, replace(launch), self._profile)
        sandbox = EmbeddedSandbox(await nursery.cell(), warm=False)
        self._live.add(sandbox)
        self._own_nurseries[sandbox] = nursery
        return sandbox

    def _track(self, task: "asyncio.Task[None]") -> None:
        self._ending.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._ending.discard(task)
        if not task.cancelled():
            task.exception()  # a cell that never was needs no end
