"""The connection to one pod's runner, made anew as often as it breaks."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from corral.api import Frame, InputFile
from corral.sandbox.channel import RunnerChannel
from corral.sandbox.errors import RequestRefusedError, SandboxLostError
from corral.sandbox.port import ExecutionRequest, Owner
from corral_operator.views import ObjectKey

#: The first packets to a new pod may be lost until its network stands; the kernel sends the next one after a second,
#: a new attempt goes out at once.
_FIRST_CONNECT_SECONDS = 0.1
_LONGEST_CONNECT_SECONDS = 3.0
_HELLO_SECONDS = 10.0
_HELD_SECONDS = 5.0
#: A container counts as running some milliseconds before its runner listens.
_FIRST_PAUSE_SECONDS = 0.01
_LONGEST_PAUSE_SECONDS = 2.0
#: A node that vanishes closes nothing: the kernel asks after 5 s of silence, every 2 s, and gives up after 3.
_KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 2),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
)


@dataclass(frozen=True, slots=True)
class Description:
    """What a runner says of itself: whom it serves, and what it has run."""

    owner: Owner | None
    executions: tuple[str, ...]


class PodChannel(RunnerChannel):
    """A runner's connection that begins with who we are."""

    keeps_frames = False

    def __init__(self, token: str) -> None:
        super().__init__()
        self._token = token

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say hello, ask for the frames, and whose the runner is, in one write."""
        connected: socket.socket = transport.get_extra_info("socket")
        for level, option, value in _KEEPALIVE:
            connected.setsockopt(level, option, value)
        cast("asyncio.Transport", transport).write(b'{"op":"hello","token":"%s"}\n' % self._token.encode())
        super().connection_made(transport)

    async def describe(self) -> Description:
        """Ask whom it serves.

        Raises:
            SandboxLostError: the connection ended.
            RequestRefusedError: the runner did not take our token.
        """
        while not self._replies.empty():
            self._replies.get_nowait()
        await self.send({"op": "describe"})
        reply = await self._replies.get()
        if reply is None:
            raise SandboxLostError(self.lost or "the connection ended")
        if reply["type"] == "error":
            raise RequestRefusedError(reply["code"], reply["message"])
        try:
            owner = reply["owner"]
            return Description(
                None if owner is None else Owner(owner["uid"], owner["attempt"]), tuple(reply["executions"])
            )
        except (KeyError, TypeError) as error:
            raise SandboxLostError(f"the runner answered with something else: {error!r}") from error


class Link:
    """One pod's runner, as long as the pod lives. ``on_change`` is called when it becomes ready or is lost."""

    def __init__(
        self,
        pod: ObjectKey,
        host: str,
        port: int,
        token: str,
        on_change: Callable[[ObjectKey], None],
    ) -> None:
        self.pod = pod
        self._address = host, port
        self._token = token
        self._on_change = on_change
        self._channel: PodChannel | None = None
        self._changed = asyncio.Condition()
        self._gone: str | None = None
        #: Loop time since when no runner has answered; None while one does.
        self.silent_since: float | None = asyncio.get_running_loop().time()
        #: Why the last attempt to connect failed.
        self.trouble = ""
        #: The runner's first word: which layers of isolation hold.
        self._greeting: Frame | None = None
        #: What the runner said when it was last asked; executions that we started are added.
        self.description: Description | None = None
        self._task = asyncio.get_running_loop().create_task(self._keep(), name=f"link {pod.name}")

    @property
    def unused(self) -> bool:
        """A runner answers, and it has served nobody."""
        return (
            self._channel is not None
            and self._channel.lost is None
            and self.description is not None
            and self.description.owner is None
        )

    def pod_is_gone(self, why: str) -> None:
        """Tell that no runner will answer any more, so that nobody waits for one."""
        if self._gone is None:
            self._gone = why
            self._task.cancel()
            if self._channel is not None:
                self._channel.fail(why)
            asyncio.get_running_loop().create_task(self._notify())

    async def close(self) -> None:
        """Close the connection; the runner goes on."""
        self.pod_is_gone("the operator closed the connection")
        await asyncio.gather(self._task, return_exceptions=True)

    async def send(self, message: dict[str, Any]) -> None:
        """Send a request, if there is a connection.

        Raises:
            SandboxLostError: there is none.
        """
        if self._channel is None:
            raise SandboxLostError(self.trouble or "the runner does not answer")
        await self._channel.send(message)

    async def answers(self, seconds: float) -> bool:
        """Whether the runner answers a question within so long."""
        try:
            async with asyncio.timeout(seconds):
                if self._channel is not None:
                    await self._channel.describe()
                    return True
        except (TimeoutError, SandboxLostError, RequestRefusedError):
            pass
        return False

    async def follow(
        self,
        owner: Owner,
        request: ExecutionRequest | None,
        execution: str,
        files: Sequence[InputFile],
        on_sent: Callable[[], None] = lambda: None,
    ) -> AsyncIterator[Frame]:
        """Start an execution, or find it started, and yield the frames of it to its end, over broken connections.

        Raises:
            RequestRefusedError: the runner refused; code ``OwnedByAnother`` where it has served somebody else,
                ``NeverStarted`` where there is nothing to attach to and no request.
            SandboxLostError: the pod is gone.
        """
        position = 0
        while True:
            channel, described = await self._ready()
            try:
                if described.owner is not None and described.owner != owner:
                    raise RequestRefusedError("OwnedByAnother", "the sandbox has served another task")
                if execution not in described.executions:
                    if request is None:
                        raise RequestRefusedError("NeverStarted", "the sandbox was never told what to run")
                    for file in files:
                        await channel.put(file.path, file.data, int(file.mode, 8))
                    # Before it is sent: whether it arrived is what the next connection asks.
                    self.description = Description(owner, (*described.executions, execution))
                    await channel.start(request)
                on_sent()
                if position == 0 and self._greeting is not None:
                    position = 1
                    yield self._greeting
                async for frame in channel.frames(position):
                    position = frame.seq + 1
                    yield frame
            except SandboxLostError:
                if self._gone is not None:
                    raise SandboxLostError(self._gone) from None

    async def _ready(self) -> tuple[PodChannel, Description]:
        async with self._changed:
            while True:
                if self._gone is not None:
                    raise SandboxLostError(self._gone)
                channel, described = self._channel, self.description
                if channel is not None and channel.lost is None and described is not None:
                    return channel, described
                await self._changed.wait()

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _keep(self) -> None:
        """Hold a connection; when it breaks, make another."""
        loop = asyncio.get_running_loop()
        pause, patience = _FIRST_PAUSE_SECONDS, _FIRST_CONNECT_SECONDS
        while True:
            try:
                await self._connect(patience)
            except Exception as error:  # noqa: BLE001 - whatever a runner answers that somebody took over
                self.trouble = str(error) or type(error).__name__
                await asyncio.sleep(pause)
                pause = min(pause * 1.5, _LONGEST_PAUSE_SECONDS)
                patience = min(patience * 1.5, _LONGEST_CONNECT_SECONDS)
                continue
            assert self._channel is not None
            patience = _FIRST_CONNECT_SECONDS
            self.silent_since = None
            await self._notify()
            self._on_change(self.pod)
            held_since = loop.time()
            await self._channel.ended()
            self.trouble = self._channel.lost or ""
            self.silent_since = loop.time()
            self._channel = None
            self.description = None
            self._on_change(self.pod)
            # One that hangs up as soon as it has greeted is not called back at the rate of the network.
            pause = _FIRST_PAUSE_SECONDS if loop.time() - held_since > _HELD_SECONDS else min(pause * 2, 2.0)
            await asyncio.sleep(pause)

    async def _connect(self, patience: float) -> None:
        host, port = self._address
        async with asyncio.timeout(patience):
            _, channel = await asyncio.get_running_loop().create_connection(
                lambda: PodChannel(self._token), host, port
            )
        try:
            async with asyncio.timeout(_HELLO_SECONDS):
                async for self._greeting in channel.frames():
                    break
                self.description = await channel.describe()
        except BaseException:
            channel.close()
            raise
        self._channel = channel
