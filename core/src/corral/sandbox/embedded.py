"""The embedded backend: sandboxes on this machine, with no daemon, no root and no cluster."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from types import TracebackType
from typing import Self

from corral.api import DEFAULT_LIMITS, Frame, ResolvedLimits
from corral.sandbox.bubblewrap import Installation
from corral.sandbox.cells import Cells
from corral.sandbox.direct import DirectSandboxes
from corral.sandbox.enclosure import Enclosure, Source
from corral.sandbox.errors import IsolationUnavailableError, SandboxError
from corral.sandbox.port import ExecutionRequest, SandboxNeeds
from corral.sandbox.preload import PRELOAD
from corral.sandbox.profile import DEFAULT_PROFILE, Profile

#: Most small tasks have ended by then, and the end of one starts a refill at once.
_REFILL_DELAY_SECONDS = 0.02
#: A killed sandbox is gone in milliseconds; on a machine that is overloaded tenfold it takes seconds.
_CLOSE_SECONDS = 15


class EmbeddedSandbox:
    """An enclosure of this machine, behind the ``Sandbox`` port."""

    def __init__(self, enclosure: Enclosure, *, warm: bool) -> None:
        self._enclosure = enclosure
        self._warm = warm
        self._gone: asyncio.Task[None] | None = None

    @property
    def warm(self) -> bool:
        return self._warm

    async def put(self, path: str, data: bytes, mode: int = 0o644) -> None:
        await self._enclosure.channel.put(path, data, mode)

    async def start(self, request: ExecutionRequest) -> None:
        await self._enclosure.channel.start(request)

    def frames(self, first: int = 0) -> AsyncIterator[Frame]:
        return self._enclosure.channel.frames(first)

    async def cancel(self) -> None:
        await self._enclosure.channel.send({"op": "cancel"})

    async def get(self, path: str) -> bytes:
        return await self._enclosure.channel.get(path)

    def kill(self) -> None:
        self._enclosure.kill()

    def end(self) -> "asyncio.Task[None]":
        """Kill it and return the task that waits for the last of it."""
        if self._gone is None:
            self._enclosure.kill()
            self._gone = asyncio.get_running_loop().create_task(self._enclosure.gone())
        return self._gone

    async def close(self) -> None:
        with suppress(SandboxError):
            await asyncio.shield(self.end())


class EmbeddedBackend:
    """Single-use sandboxes, with some of them started ahead.

    Those started ahead are cells of one nursery; where this machine makes none, found out with the first, or where
    none are started ahead, each is a bubblewrap of its own. Use as an asynchronous context manager, within one
    event loop.
    """

    name = "embedded"

    def __init__(
        self,
        *,
        waiting: int = 2,
        profile: Profile = DEFAULT_PROFILE,
        installation: Installation | None = None,
        cells: bool = True,
    ) -> None:
        """Prepare; nothing starts yet.

        Args:
            waiting: how many sandboxes are kept started ahead of need; 0 for a single task.
            profile: what isolates; weaker ones are for tests.
            installation: where the parts are; those of the running interpreter by default.
            cells: whether to try cells first.

        Raises:
            IsolationUnavailableError: a part is not installed.
        """
        self._size = waiting
        self._profile = profile
        installation = installation or Installation.of_this_process()
        preload = PRELOAD if waiting else ()
        self._default = SandboxNeeds(ResolvedLimits.of(DEFAULT_LIMITS).disk_bytes)
        self._cells = Cells(installation, profile, preload)
        self._direct = DirectSandboxes(installation, profile, preload, self._default.disk_bytes)
        # A nursery pays from the second sandbox on.
        self._source: Source = self._cells if cells and waiting else self._direct
        #: Sources of which a sandbox has come up, so that what fails is no matter of the machine.
        self._proven: set[Source] = set()
        self._waiting: deque[Enclosure] = deque()
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
        if self._waiting:
            await asyncio.sleep(0)  # lets the loop see which of them have ended meanwhile
        while self._waiting and self._source.suits(needs):
            enclosure = self._waiting.popleft()
            if enclosure.channel.lost is None:
                return self._given(enclosure, warm=True)
            self._track(EmbeddedSandbox(enclosure, warm=True).end())
        return self._given(await self._make(needs), warm=False)

    async def warm_up(self) -> None:
        """Start the sandboxes that wait, and return when they do.

        Raises:
            IsolationUnavailableError: this machine cannot isolate.
            SandboxStartError: they did not start.
        """
        while len(self._waiting) < self._size:
            self._waiting.append(await self._make(self._default))
        for enclosure in list(self._waiting):
            await enclosure.up()

    def release(self, sandbox: EmbeddedSandbox) -> None:
        """End a sandbox in the background; ``close`` of the backend waits for it."""
        self._live.discard(sandbox)
        self._track(sandbox.end())
        self._start_refill()

    async def close(self) -> None:
        """End everything and wait until nothing is left. Safe to call twice."""
        self._closed = True
        if self._refill is not None:
            self._refill.cancel()
            # What it was making ends like the others, but it must have said so.
            await asyncio.gather(self._refill, return_exceptions=True)
        for sandbox in list(self._live):
            self.release(sandbox)
        for enclosure in self._waiting:
            self._track(EmbeddedSandbox(enclosure, warm=True).end())
        self._waiting.clear()
        if self._ending:
            await asyncio.wait(self._ending, timeout=_CLOSE_SECONDS)
        # A cell that has not ended by itself ends with its nursery.
        await self._cells.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _make(self, needs: SandboxNeeds) -> Enclosure:
        """Make a sandbox, and find out with the first whether this machine makes cells."""
        source = self._source
        # A bubblewrap may fail at any time, and only its own end tells why.
        if source in self._proven and source is not self._direct:
            return await source.make(needs)
        try:
            return await self._first(source, needs)
        except IsolationUnavailableError:
            raise
        except SandboxError:
            if source is self._direct or source in self._proven:
                raise
            self._source = self._direct
            await self._cells.close()  # what it holds may be what the next needs
            return await self._first(self._direct, needs)

    async def _first(self, source: Source, needs: SandboxNeeds) -> Enclosure:
        enclosure = await source.make(needs)
        try:
            await enclosure.up()
        except BaseException:
            self._track(EmbeddedSandbox(enclosure, warm=False).end())
            raise
        self._proven.add(source)
        return enclosure

    def _given(self, enclosure: Enclosure, *, warm: bool) -> EmbeddedSandbox:
        sandbox = EmbeddedSandbox(enclosure, warm=warm)
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
                enclosure = await self._make(self._default)
                self._waiting.append(enclosure)
                # One at a time: the nursery makes them one after the other, and a task may be waiting for it.
                await enclosure.up()

    def _track(self, task: "asyncio.Task[None]") -> None:
        self._ending.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._ending.discard(task)
        if not task.cancelled():
            task.exception()  # a cell that never was needs no end
