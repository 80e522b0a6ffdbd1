"""Sandboxes as cells of a nursery: the embedded backend's first choice."""

from dataclasses import dataclass

from corral.sandbox.bubblewrap import Installation, Launch
from corral.sandbox.channel import RunnerChannel
from corral.sandbox.errors import SandboxError
from corral.sandbox.nursery import Cell, Nursery
from corral.sandbox.port import SandboxNeeds
from corral.sandbox.profile import Profile


@dataclass
class LoneCell:
    """The one cell of a nursery of its own, which has a directory of the host as its workspace."""

    cell: Cell
    nursery: Nursery

    @property
    def channel(self) -> RunnerChannel:
        return self.cell.channel

    async def up(self) -> None:
        await self.cell.up()

    def kill(self) -> None:
        self.cell.kill()

    async def gone(self) -> None:
        await self.nursery.close()


class Cells:
    """Makes cells out of one nursery, and starts a new one if that should end."""

    def __init__(self, installation: Installation, profile: Profile, preload: tuple[str, ...]) -> None:
        self._installation = installation
        self._profile = profile
        self._preload = preload
        self._nursery: Nursery | None = None

    async def make(self, needs: SandboxNeeds) -> Cell | LoneCell:
        """Ask for a cell; see ``Source.make``. Waits for the first of a nursery to come up."""
        if needs.workspace is not None:
            return await self._with_workspace(needs)
        if self._nursery is None or self._nursery.ended is not None:
            launch = Launch("nursery", 0, self._preload)
            self._nursery = Nursery.start(self._installation, launch, self._profile)
        nursery = self._nursery
        cell = await nursery.cell()
        await _prove(nursery, cell)
        return cell

    def suits(self, needs: SandboxNeeds) -> bool:
        """A cell's file system is made to measure when its execution starts."""
        return needs.workspace is None

    async def close(self) -> None:
        """End the nursery."""
        if self._nursery is not None:
            await self._nursery.close()

    async def _with_workspace(self, needs: SandboxNeeds) -> LoneCell:
        launch = Launch("nursery", 0, (), needs.workspace, needs.workspace_read_only)
        nursery = Nursery.start(self._installation, launch, self._profile)
        cell = await nursery.cell()
        try:
            await _prove(nursery, cell)
        except SandboxError:
            await nursery.close()
            raise
        return LoneCell(cell, nursery)


async def _prove(nursery: Nursery, cell: Cell) -> None:
    if not nursery.proven:
        await cell.up()
        nursery.proven = True
