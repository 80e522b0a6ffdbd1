"""The connection to one pod's runner, made anew as often as it breaks."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

from corral.api import Frame, InputFile
from corral.cluster.port import ObjectKey
from corral.sandbox.errors import ProtocolBrokenError, RequestRefusedError, SandboxLostError
from corral.sandbox.pod.allowance import Allowance, most_bytes
from corral.sandbox.pod.channel import Description, PodChannel
from corral.sandbox.pod.tokens import token_sha256
from corral.sandbox.port import ExecutionRequest, Owner
from corral_operator.sandboxes.incoming import ReadFile

#: The first packets to a new pod may be lost until its network stands; the kernel sends the next one after a second,
#: a new attempt goes out at once.
_FIRST_CONNECT_SECONDS = 0.1
_LONGEST_CONNECT_SECONDS = 3.0
_HELLO_SECONDS = 10.0
_HELD_SECONDS = 5.0
#: A container counts as running some milliseconds before its runner listens.
_FIRST_PAUSE_SECONDS = 0.01
_LONGEST_PAUSE_SECONDS = 2.0


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
        self._allowance = Allowance()
        #: Whose allowance it is.
        self._allowed: Owner | None = None
        self._on_change = on_change
        self._channel: PodChannel | None = None
        self._changed = asyncio.Condition()
        self._gone: str | None = None
        #: Tells whoever waits; a loop keeps no task that nobody else does.
        self._farewell: asyncio.Task[None] | None = None
        #: Loop time since when no runner has answered; None while one does.
        self.silent_since: float | None = asyncio.get_running_loop().time()
        #: Why the last attempt to connect failed.
        self.trouble = ""
        #: What the runner said when it was last asked; while it is told to start, for whom.
        self.description: Description | None = None
        #: Loop time when it said so.
        self.described_at = 0.0
        #: One at a time asks for the sandbox, and knows what the runner says to it before the next one asks.
        self._asking = asyncio.Lock()
        self._task = asyncio.get_running_loop().create_task(self._keep(), name=f"link {pod.name}")

    @property
    def unused(self) -> bool:
        """A runner answers, and it has served nobody."""
        return (
            self._channel is not None
            and self._channel.lost is None
            and self.description is not None
            and self.description.owner is None
            and not self.description.retired
        )

    def give_up(self, why: str) -> None:
        """Listen to the runner no more, nor wait for it; the pod is gone, or nothing that it says matters."""
        if self._gone is None:
            loop = asyncio.get_running_loop()
            self._gone = why
            self._task.cancel()
            if self._channel is not None:
                self._channel.fail(why)
                self._channel, self.silent_since = None, loop.time()
            self._farewell = loop.create_task(self._notify())

    async def close(self) -> None:
        """Close the connection; the runner goes on."""
        self.give_up("the operator closed the connection")
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

    async def retire(self, seconds: float) -> Description | None:
        """Have the runner serve nobody from now on, unless it serves somebody, and return what it says then.

        None: it does not answer within so long, or knows no such request.
        """
        with suppress(TimeoutError, SandboxLostError):
            async with asyncio.timeout(seconds), self._asking:
                channel, described = await self._ready()
                if described.owner is not None:
                    return described  # for its whole life
                try:
                    return self._learn(await channel.retire())
                except RequestRefusedError as error:
                    channel.fail(str(error))
        return None

    async def follow(
        self,
        owner: Owner,
        request: ExecutionRequest | None,
        execution: str,
        files: Sequence[InputFile],
        *,
        read: ReadFile | None = None,
        on_sent: Callable[[], None] = lambda: None,
    ) -> AsyncIterator[Frame]:
        """Start an execution, or find it started, and yield the frames of it to its end, over broken connections.

        Raises:
            RequestRefusedError: the runner refused; code ``OwnedByAnother`` where it has served somebody else,
                ``NeverStarted`` where there is nothing to attach to and no request.
            ProtocolBrokenError, FrameError: the runner is none of ours, or not any more.
            SandboxLostError: the pod is gone.
            FileUnavailableError: a file cannot be had; nothing was started.
        """

        async def put_files(channel: PodChannel) -> None:
            for file in files:
                mode = int(file.mode, 8)
                if read is not None and file.artifact is not None:
                    await channel.put_as_it_comes(file.path, read(file), mode)
                else:
                    await channel.put(file.path, file.data, mode)

        position = 0
        while True:
            channel = None
            try:
                async with self._asking:
                    channel = await self._started(owner, request, execution, put_files, on_sent)
                async for frame in channel.frames(position):
                    position = frame.seq + 1
                    yield frame
            except ProtocolBrokenError:
                raise
            except RequestRefusedError as error:
                # Something runs already. Is it this, started by another operator? The next connection tells.
                if error.code != "Busy" or channel is not None:
                    raise
            except SandboxLostError:
                if self._gone is not None:
                    raise SandboxLostError(self._gone) from None

    async def _started(
        self,
        owner: Owner,
        request: ExecutionRequest | None,
        execution: str,
        put_files: Callable[[PodChannel], Awaitable[None]],
        on_sent: Callable[[], None],
    ) -> PodChannel:
        """Start an execution, or find it started; returns the connection by which the runner said whose it is."""
        channel, described = await self._ready()
        to_start = _to_start(described, owner, request, execution)
        if self._allowed != owner:  # else it goes on over another connection
            self._allowed, self._allowance.left_bytes = owner, most_bytes(request)
        if to_start is None:
            on_sent()
            return channel
        try:
            channel.speak_for(owner)
            await put_files(channel)
            if self._channel is channel:
                # Before it is sent: whether it arrived is what the next connection asks.
                self.description = Description(owner, (*described.executions, execution))
            await channel.start(to_start)
            on_sent()
            # Two operators may give one sandbox to two tasks: who was first, the runner alone knows.
            said = self._learn(await channel.describe())
        except RequestRefusedError as error:
            channel.fail(str(error))  # the next one begins without what this one was refused
            raise
        if _to_start(said, owner, request, execution) is not None:
            raise ProtocolBrokenError("the runner neither started what it was told to start, nor refused it")
        return channel

    def _learn(self, said: Description) -> Description:
        self.description, self.described_at = said, asyncio.get_running_loop().time()
        return said

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
                lambda: PodChannel(self._token, token_sha256(self._token), self._allowance), host, port
            )
        try:
            async with asyncio.timeout(_HELLO_SECONDS):
                self._learn(await channel.described())
        except BaseException:
            channel.close()
            raise
        self._channel = channel


def _to_start(
    described: Description, owner: Owner, request: ExecutionRequest | None, execution: str
) -> ExecutionRequest | None:
    """Return what is yet to be started, None if it was; raises ``RequestRefusedError`` where it cannot be followed."""
    if described.owner is not None and described.owner != owner:
        raise RequestRefusedError("OwnedByAnother", "the sandbox has served another task")
    if described.retired:
        raise RequestRefusedError("OwnedByAnother", "the sandbox is being taken away")
    if execution in described.executions:
        return None
    if request is None:
        raise RequestRefusedError("NeverStarted", "the sandbox was never told what to run")
    return request
