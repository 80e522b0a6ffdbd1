"""The Docker backend: containers for single use, some of them started ahead."""

import asyncio
from collections import deque
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self, TypeVar

from corral.api import DEFAULT_LIMITS, ResolvedLimits
from corral.sandbox.docker.container import USER, EngineLimits, Room, runner_container
from corral.sandbox.docker.engine import Engine, Machine
from corral.sandbox.docker.leftovers import OWNER_LABEL, OwnerProcess
from corral.sandbox.docker.options import DockerOptions
from corral.sandbox.docker.program import ProgramSandbox
from corral.sandbox.docker.sandbox import DockerSandbox
from corral.sandbox.errors import (
    ImageUnavailableError,
    IsolationUnavailableError,
    SandboxError,
    SandboxStartError,
    UnsupportedError,
)
from corral.sandbox.port import SandboxNeeds
from corral.sandbox.preload import PRELOAD
from corral.sandbox.profile import DEFAULT_PROFILE, Profile

_T = TypeVar("_T")

#: Containers are removed by the daemon in a tenth of a second each; one that is still there so much later stays.
_REMOVAL_SECONDS = 30
#: Most small tasks have ended by then.
_REFILL_DELAY_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class _Ground:
    """What all containers of this backend are made with."""

    engine: Engine
    machine: Machine
    room: Room


class DockerBackend:
    """Single-use containers. Use as an asynchronous context manager, within one event loop."""

    name = "docker"

    def __init__(
        self,
        *,
        waiting: int = 2,
        options: DockerOptions | None = None,
        profile: Profile = DEFAULT_PROFILE,
    ) -> None:
        """Prepare; nothing is asked of the daemon yet.

        Args:
            waiting: how many containers are kept started ahead of need; 0 for a single task.
            options: image, daemon, pull policy, runtime; those of the environment by default.
            profile: what isolates; weaker ones are for tests.

        Raises:
            IsolationUnavailableError: the ``docker`` package is not installed, or an option cannot be used.
        """
        self._options = options or DockerOptions.of_environment()
        self._engine = Engine(self._options.host)
        self._size = waiting
        self._profile = profile
        self._preload = PRELOAD if waiting else ()
        self._limits = ResolvedLimits.of(DEFAULT_LIMITS)
        self._ground: _Ground | None = None
        self._preparing = asyncio.Lock()
        self._weakened = profile.weakened
        #: Sandboxes have come from this daemon, so that what fails is no matter of its set-up.
        self._proven = False
        self._waiting: deque[DockerSandbox] = deque()
        self._live: set[DockerSandbox | ProgramSandbox] = set()
        self._work: set[asyncio.Task[Any]] = set()
        self._refill: asyncio.Task[None] | None = None
        self._filling = asyncio.Lock()
        self._closed = False

    @property
    def weakened(self) -> tuple[str, ...]:
        return self._weakened

    async def acquire(self, needs: SandboxNeeds) -> DockerSandbox | ProgramSandbox:
        """Give a sandbox; see ``SandboxBackend.acquire``.

        Raises:
            ImageUnavailableError: the tool's image is not there.
            UnsupportedError: Docker cannot give what is needed.
        """
        if self._closed:
            raise SandboxError("this backend is closed")
        while self._waiting and self._suits(needs):
            await asyncio.sleep(0)  # lets the loop see which of them have ended meanwhile
            if not self._waiting:
                break
            sandbox = self._waiting.popleft()
            if sandbox.channel.lost is None:
                sandbox.warm = True
                return self._given(sandbox)
            self._track(sandbox.end())
        try:
            return self._given(await self._uncancelled(self._make(needs)))
        except IsolationUnavailableError as error:
            if self._proven:
                raise SandboxStartError(str(error)) from error
            raise

    async def warm_up(self) -> None:
        """Start the sandboxes that wait, and return when they do.

        Raises:
            IsolationUnavailableError: there is no daemon, or no image.
            SandboxStartError: they did not start.
        """
        async with self._filling:
            while len(self._waiting) < self._size and not self._closed:
                self._waiting.append(await self._uncancelled(self._runner(self._default_needs())))

    def release(self, sandbox: DockerSandbox | ProgramSandbox) -> None:
        """End a sandbox in the background; ``close`` of the backend waits for it."""
        self._live.discard(sandbox)
        self._track(sandbox.end())
        self._start_refill()

    async def close(self) -> None:
        """End everything and wait until nothing is left. Safe to call twice."""
        self._closed = True
        for _ in range(2):  # what was being made when the first round began has come up in the second
            for sandbox in [*self._live, *self._waiting]:
                self._track(sandbox.end())
            self._live.clear()
            self._waiting.clear()
            if self._work:
                await asyncio.wait(self._work, timeout=_REMOVAL_SECONDS)
        self._engine.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # --- making them ---

    def _default_needs(self) -> SandboxNeeds:
        return SandboxNeeds(self._limits.disk_bytes)

    def _suits(self, needs: SandboxNeeds) -> bool:
        """Whether one that was started ahead may be given: a file system's size is fixed when it is made."""
        return needs == self._default_needs()

    async def _make(self, needs: SandboxNeeds) -> DockerSandbox | ProgramSandbox:
        if needs.plain:
            ground = await self._prepared()
            room = self._room(ground, needs)
            await self._image_there(ground, room.image)
            return ProgramSandbox(ground.engine, room, self._profile, ground.machine.cores)
        return await self._runner(needs)

    async def _runner(self, needs: SandboxNeeds) -> DockerSandbox:
        ground = await self._prepared()
        room = self._room(ground, needs)
        body = runner_container(room, self._profile, self._preload if self._suits(needs) else ())
        try:
            container, connection = await ground.engine.launch(body)
        except ImageUnavailableError:
            await self._image_there(ground, room.image)
            container, connection = await ground.engine.launch(body)
        sandbox = await DockerSandbox.connected(
            ground.engine, container, connection, room, ground.machine.cores
        )
        try:
            await sandbox.up()
        except SandboxStartError as error:
            if self._proven or room.image != self._options.image:
                raise
            raise IsolationUnavailableError(
                f"the image {room.image} starts no runner ({error})", "Build it again: make image"
            ) from error
        self._proven = True
        return sandbox

    async def _prepared(self) -> _Ground:
        """Ask the daemon what it is, once, and remove what dead owners have left there."""
        async with self._preparing:
            if self._ground is None:
                engine = self._engine
                machine = await engine.machine()
                owner = OwnerProcess.current()
                for container, labels in await engine.owned(OWNER_LABEL):
                    if owner.knows_dead(labels):
                        self._track(asyncio.get_running_loop().create_task(engine.remove(container)))
                room = Room(
                    image=self._options.image,
                    limits=EngineLimits.of(self._limits, self._limits.disk_bytes, machine.cores),
                    disk_bytes=self._limits.disk_bytes,
                    labels=owner.labels(),
                    runtime=self._options.runtime,
                    remapped_users=machine.remapped_users,
                )
                self._weakened = tuple(sorted({*self._profile.weakened, *machine.weakened}))
                self._ground = _Ground(engine, machine, room)
            return self._ground

    def _room(self, ground: _Ground, needs: SandboxNeeds) -> Room:
        limits = EngineLimits.of(self._limits, needs.disk_bytes, ground.machine.cores)
        room = replace(
            ground.room,
            limits=limits,
            disk_bytes=needs.disk_bytes,
            image=needs.image or self._options.image,
            weakened=self._weakened,
        )
        if needs.workspace is None:
            return room
        if not ground.machine.local:
            raise UnsupportedError(
                "spec.workspace.hostPath",
                f"the Docker daemon at {ground.engine.host} is on another machine, which has no directory of this one",
            )
        owner = needs.workspace.stat()
        if owner.st_uid == 0:
            raise UnsupportedError(
                "spec.workspace.hostPath",
                f"the workspace {needs.workspace} belongs to root, and no sandbox runs with root's rights. "
                "Give it to an ordinary user (chown)",
            )
        return replace(
            room,
            workspace=needs.workspace,
            workspace_read_only=needs.workspace_read_only,
            user=(owner.st_uid, owner.st_gid or USER),
        )

    async def _image_there(self, ground: _Ground, image: str) -> None:
        """Make sure of an image, as the pull policy says.

        Raises:
            IsolationUnavailableError: Corral's own is missing, so that nothing can run.
            ImageUnavailableError: a tool's is.
        """
        if await ground.engine.has_image(image):
            return
        if self._options.pull == "missing":
            await ground.engine.pull(image)
            return
        missing = f"the daemon at {ground.engine.host} has no image {image}"
        if image == self._options.image:
            raise IsolationUnavailableError(
                missing, "Build it (make image), or name another in CORRAL_DOCKER_IMAGE"
            )
        raise ImageUnavailableError(f"{missing}. Pull or build it there, or set CORRAL_DOCKER_PULL=missing")

    # --- those that wait, and those that end ---

    def _given(self, sandbox: DockerSandbox | ProgramSandbox) -> DockerSandbox | ProgramSandbox:
        self._live.add(sandbox)
        # Making the next one takes the cores that this task is about to use: wait for a quieter moment.
        asyncio.get_running_loop().call_later(_REFILL_DELAY_SECONDS, self._start_refill)
        return sandbox

    def _start_refill(self) -> None:
        if (
            not self._closed
            and len(self._waiting) < self._size
            and (self._refill is None or self._refill.done())
        ):
            self._refill = asyncio.get_running_loop().create_task(self._fill())
            self._track(self._refill)

    async def _fill(self) -> None:
        with suppress(SandboxError):  # whoever needs the next sandbox is told why there is none
            async with self._filling:
                while len(self._waiting) < self._size and not self._closed:
                    self._waiting.append(await self._runner(self._default_needs()))

    async def _uncancelled(self, making: Coroutine[Any, Any, _T]) -> _T:
        """Wait for a sandbox; if the caller goes away meanwhile, end it when it has come."""
        task = asyncio.get_running_loop().create_task(making)
        self._track(task)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(self._unwanted)
            raise

    def _unwanted(self, task: "asyncio.Task[Any]") -> None:
        if not task.cancelled() and task.exception() is None:
            self._track(task.result().end())

    def _track(self, task: "asyncio.Task[Any]") -> None:
        self._work.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        self._work.discard(task)
        if not task.cancelled():
            task.exception()  # a daemon that is gone removes nothing, and has said so to who asked
