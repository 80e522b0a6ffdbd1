"""One attempt of an execution in a pod: followed to its end, whatever breaks on the way."""

import asyncio
from collections.abc import Callable, Sequence

from corral.api import (
    ExecutionError,
    ExecutionResult,
    ExecutionStatus,
    FileChunk,
    Frame,
    FrameError,
    InputFile,
    Reason,
)
from corral.sandbox.errors import ProtocolBrokenError, RequestRefusedError, SandboxLostError
from corral.sandbox.execution import Record, refusal_result, with_text_result
from corral.sandbox.port import ExecutionRequest, Owner
from corral_operator.decisions.observed import RunView
from corral_operator.sandboxes.incoming import FileUnavailableError, ReadFile
from corral_operator.sandboxes.leaving import Leaving
from corral_operator.sandboxes.link import Link

#: A runner ends its tool at the deadline and says so; this much later somebody asks it why it did not.
_LATE_SECONDS = 5.0
_ANSWER_SECONDS = 3.0


class Run:
    """Follows one attempt in the background."""

    def __init__(
        self,
        link: Link,
        owner: Owner,
        request: ExecutionRequest | None,
        record: Record,
        files: Sequence[InputFile],
        *,
        start_seconds: float,
        read: ReadFile | None = None,
        leaving: Leaving | None = None,
    ) -> None:
        """Prepare.

        Args:
            link: to the pod.
            owner: whom the sandbox serves.
            request: what is to start; None: what was started before is followed.
            record: of the attempt.
            files: for the workspace.
            start_seconds: how long it may take until the runner has been told.
            read: gives the content of those that the artifact store has; None: there are none.
            leaving: keeps what is too large for a status; None: there is nowhere.
        """
        self._read = read
        self.leaving = leaving
        self._start_seconds = start_seconds
        self._link = link
        self._owner = owner
        self._request = request
        self.record = record
        self._files = files
        self._cancelled = False
        self._cancel = {"op": "cancel", "owner": owner.to_runner()}
        self._clock: asyncio.Timeout | None = None

    async def cancel(self) -> None:
        """Ask the runner to end it. A runner that cannot be reached is asked again when it can."""
        self._cancelled = True
        try:
            await self._link.send(self._cancel)
        except SandboxLostError:
            return

    async def answers(self) -> bool:
        """Whether the runner still answers."""
        return await self._link.answers(_ANSWER_SECONDS)

    def hang_up(self) -> None:
        """Read nothing more of what the runner says."""
        self._link.give_up("its execution has ended")

    async def follow(self) -> RunView:  # noqa: PLR0911 - one for each way in which it can end
        """Follow it to its end, and return what is then known."""
        sent = False
        try:
            async with asyncio.timeout(None if self._request is None else self._start_seconds) as clock:
                self._clock = clock

                def start_the_clock() -> None:
                    nonlocal sent
                    if not sent and self._request is not None:
                        wall = self._request.limits.wall_seconds + _LATE_SECONDS
                        clock.reschedule(asyncio.get_running_loop().time() + wall)
                    sent = True

                return await self._frames(start_the_clock)
        except TimeoutError:
            if not sent:
                return RunView(lost="its runner did not answer in time", began=False)
        except RequestRefusedError as error:
            return self._refused(error)
        except FileUnavailableError as error:
            problem = ExecutionError(type=error.kind, message=str(error), field=error.field)
            return RunView(ended=self.record.refused(error.reason, str(error), problem))
        except (FrameError, ProtocolBrokenError) as error:
            return RunView(
                ended=self._ended(Reason.SANDBOX_FAILED, str(error), type(error).__name__), began=True
            )
        except SandboxLostError as error:
            return RunView(lost=str(error), began=self.record.started is not None)
        if not await self.answers():
            return RunView(lost="the runner does not answer any more", began=True)
        message = "the deadline passed and the runner did not end the tool; its pod is taken away"
        return RunView(ended=self._ended(Reason.DEADLINE_EXCEEDED, message, "DeadlineExceeded"), began=True)

    async def _frames(self, on_sent: Callable[[], None]) -> RunView:
        name = self.record.name
        frames = self._link.follow(
            self._owner, self._request, name, self._files, read=self._read, on_sent=on_sent
        )
        async for frame in frames:
            if frame.execution not in {None, name}:
                continue
            result = await self._take(frame)
            if result is not None:
                if self._request is not None:
                    result = with_text_result(self._request, self.record, result)
                return RunView(ended=self.record.status(result), began=True, told=True)
            if self._cancelled and self.record.started is not None:
                self._cancelled = False
                await self._link.send(self._cancel)
        raise SandboxLostError("the runner ended without a result")

    async def _take(self, frame: Frame) -> ExecutionResult | None:
        if self.leaving is None or not self.leaving.takes(frame):
            return self.record.take(frame)
        # A store that takes its time takes none of the tool's.
        loop, clock = asyncio.get_running_loop(), self._clock
        deadline, began = None if clock is None else clock.when(), loop.time()
        if clock is not None and deadline is not None:
            clock.reschedule(None)
        await self.leaving.take(frame)
        if clock is not None and deadline is not None:
            clock.reschedule(deadline + loop.time() - began)
        return None if isinstance(frame, FileChunk) else self.record.take(frame)

    def _refused(self, error: RequestRefusedError) -> RunView:
        if error.code in {"OwnedByAnother", "NeverStarted"} or self._request is None:
            return RunView(never_started=str(error))
        return RunView(ended=self.record.status(refusal_result(error, self._request)))

    def _ended(self, reason: Reason, message: str, kind: str) -> ExecutionStatus:
        return self.record.refused(reason, message, ExecutionError(type=kind, message=message))
