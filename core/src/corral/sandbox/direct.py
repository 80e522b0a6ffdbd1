"""Sandboxes that are a bubblewrap each, for machines that allow no namespaces inside one.

So it is under Ubuntu's AppArmor profile for bwrap, and where ``user.max_user_namespaces`` is used up. Slower than a
cell by a start of bubblewrap and Python, and the same contract.
"""

import asyncio
import socket

from corral.sandbox.bubble import Bubble
from corral.sandbox.bubblewrap import Installation, Launch
from corral.sandbox.channel import RunnerChannel
from corral.sandbox.errors import SandboxLostError
from corral.sandbox.port import SandboxNeeds
from corral.sandbox.profile import Profile


class DirectSandbox:
    """One bubblewrap whose first process is the runner."""

    def __init__(self, bubble: Bubble, channel: RunnerChannel) -> None:
        self.channel = channel
        self._bubble = bubble

    async def up(self) -> None:
        """Wait until its runner speaks; see ``Enclosure.up``."""
        try:
            await self.channel.first_frame()
        except SandboxLostError as error:
            await self._bubble.gone()
            raise self._bubble.explain(error) from None

    def kill(self) -> None:
        """End it at once; see ``Enclosure.kill``."""
        self.channel.close()
        self._bubble.kill()

    async def gone(self) -> None:
        """Wait until nothing of it is left; see ``Enclosure.gone``."""
        await self._bubble.gone()


class DirectSandboxes:
    """Starts a bubblewrap for each sandbox."""

    def __init__(
        self, installation: Installation, profile: Profile, preload: tuple[str, ...], disk_bytes: int
    ) -> None:
        """Prepare; nothing starts yet.

        Args:
            installation: where the parts are.
            profile: what isolates.
            preload: modules that a sandbox imports before it is asked for.
            disk_bytes: size of the file systems of those that are started ahead.
        """
        self._installation = installation
        self._profile = profile
        self._preload = preload
        self._disk_bytes = disk_bytes

    async def make(self, needs: SandboxNeeds) -> DirectSandbox:
        """Start one; see ``Source.make``."""
        launch = Launch(
            "serve",
            0,
            self._preload if self.suits(needs) else (),
            needs.workspace,
            needs.workspace_read_only,
            needs.disk_bytes,
        )
        ours, theirs = socket.socketpair()
        with theirs:
            channel = RunnerChannel()
            await asyncio.get_running_loop().create_connection(lambda: channel, sock=ours)
            try:
                bubble = Bubble.start(self._installation, launch, self._profile, theirs)
            except BaseException:
                channel.close()
                raise
        return DirectSandbox(bubble, channel)

    def suits(self, needs: SandboxNeeds) -> bool:
        """A file system's size is fixed when bubblewrap makes it."""
        return needs.workspace is None and needs.disk_bytes == self._disk_bytes

    async def close(self) -> None:
        """Nothing is shared."""
