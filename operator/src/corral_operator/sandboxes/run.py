"""One attempt of an execution in a pod: followed to its end, whatever breaks on the way."""

import asyncio
from collections.abc import Callable, Sequence

from corral.api import ExecutionError, ExecutionStatus, FrameError, InputFile, Reason
from corral.sandbox.errors import ProtocolBrokenError, RequestRefusedError, SandboxLostError
from corral.sandbox.execution import Record, refusal_result, with_text_result
from corral.sandbox.port import ExecutionRequest, Owner
from corral_operator.decisions.observed import RunView
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
    ) -> None:
        """Prepare.

        Args:
            link: to the pod.
            owner: whom the sandbox serves.
            request: what is to start; None: what was started before is followed.
            record: of the attempt.
            files: for the workspace.
            start_seconds: how long it may take until the runner has been told.
        """
        self._start_seconds = start_seconds
        self._link = link
        self._owner = owner
        self._request = request
        self.record = record
        self._files = files
        self._cancelled = False

    async def cancel(self) -> None:
        """Ask the runner to end it. A runner that cannot be reached is asked again when it can."""
        self._cancelled = True
        try:
            await self._link.send({"op": "cancel"})
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
        async for frame in self._link.follow(self._owner, self._request, name, self._files, on_sent):
            if frame.execution not in {None, name}:
                continue
            result = self.record.take(frame)
            if result is not None:
                if self._request is not None:
                    result = with_text_result(self._request, self.record, result)
                return RunView(ended=self.record.status(result), began=True, told=True)
            if self._cancelled and self.record.started is not None:
                self._cancelled = False
                await self._link.send({"op": "cancel"})
        raise SandboxLostError("the runner ended without a result")

    def _refused(self, error: RequestRefusedError) -> RunView:
        if error.code in {"OwnedByAnother", "NeverStarted"} or self._request is None:
            return RunView(never_started=str(error))
        return RunView(ended=self.record.status(refusal_result(error, self._request)))

    def _ended(self, reason: Reason, message: str, kind: str) -> ExecutionStatus:
        return self.record.refused(reason, message, ExecutionError(type=kind, message=message))
