"""One execution in one sandbox: from a request to what the status says of it."""

import asyncio
import hashlib
from base64 import b64encode
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from corral.api import (
    ExecutionError,
    ExecutionOutput,
    ExecutionResult,
    ExecutionStatus,
    FileChunk,
    Frame,
    FrameError,
    InputFile,
    LimitBreach,
    Output,
    OutputFile,
    Phase,
    Ready,
    Reason,
    Result,
    SandboxStatus,
    Timings,
    phase_of,
    time_text,
)
from corral.sandbox.errors import RequestRefusedError, SandboxError, SandboxLostError
from corral.sandbox.port import ExecutionRequest, Sandbox

#: A runner ends its tool at the deadline and says so. One that has not done so this much later is stuck, and its
#: sandbox is killed from outside.
_STUCK_AFTER_SECONDS = 5.0
#: A sandbox that has not taken the files for its tool by then is stuck.
_TAKING_SECONDS = 60.0
#: Larger files are handed to the caller but not put into a status, whose place may be etcd.
STATUS_FILE_BYTES = 16 * 1024
#: As large as the runner lets a structured result be; longer output is only output.
_TEXT_RESULT_CHARACTERS = 256 * 1024
#: As many as the runner sends back.
_MOST_FILES = 1000

OnFrame = Callable[[Frame], None]
#: Returns the content of a file that is kept elsewhere.
ReadFile = Callable[[InputFile], Awaitable[bytes]]


@dataclass(slots=True)
class Record:
    """What is known of one execution while it runs."""

    name: str
    tool: str
    attempt: int
    queued: datetime
    claimed: datetime | None = None
    started: datetime | None = None
    isolation: tuple[str, ...] = ()
    weakened: tuple[str, ...] = ()
    stdout: list[str] = field(default_factory=list)
    stderr: list[str] = field(default_factory=list)
    #: Of each stream, characters that are kept; None: all. What comes after is dropped, and said to be cut.
    keep: int | None = None
    kept: dict[str, int] = field(default_factory=dict)
    #: Files up to this size stand in the status with their content.
    inline_bytes: int = STATUS_FILE_BYTES
    files: dict[str, bytearray] = field(default_factory=dict)
    #: What the files that come back may take together; None: anything.
    outputs_bytes: int | None = None
    returned_bytes: int = 0

    def take(self, frame: Frame) -> ExecutionResult | None:
        """Take one frame in; the result is returned when it is the last.

        Raises:
            FrameError: more comes back than was asked for.
        """
        match frame:
            case Output():
                self._keep(frame)
            case FileChunk():
                self._keep_file(frame)
            case Ready():
                self.isolation, self.weakened = frame.isolation, frame.weakened
            case Result():
                return frame.result
            case _:
                if self.started is None:
                    self.started = _now()
        return None

    def _keep(self, frame: Output) -> None:
        kept, text = self.kept.get(frame.stream, 0), frame.text
        self.kept[frame.stream] = kept + len(text)
        if self.keep is not None:
            text = text[: max(0, self.keep - kept)]
        (self.stdout if frame.stream == "stdout" else self.stderr).append(text)

    def _keep_file(self, chunk: FileChunk) -> None:
        self.files.setdefault(chunk.path, bytearray()).extend(chunk.data)
        self.returned_bytes += len(chunk.data)
        if self.outputs_bytes is not None and self.returned_bytes > self.outputs_bytes:
            raise FrameError(f"the runner sent back more than {self.outputs_bytes} bytes of files")
        if len(self.files) > _MOST_FILES:
            raise FrameError(f"the runner sent back more than {_MOST_FILES} files")

    @property
    def cut(self) -> bool:
        """More was printed than is kept."""
        return self.keep is not None and any(length > self.keep for length in self.kept.values())

    def status(self, result: ExecutionResult) -> ExecutionStatus:
        """Say how it ended."""
        return ExecutionStatus.model_construct(
            name=self.name,
            tool=self.tool,
            attempt=self.attempt,
            phase=phase_of(result.reason),
            reason=result.reason,
            message=result.message or None,
            exit_code=result.exit_code,
            signal=result.signal,
            output=ExecutionOutput.model_construct(
                stdout="".join(self.stdout),
                stderr="".join(self.stderr),
                truncated=result.truncated or self.cut,
            ),
            result=result.result,
            error=result.error,
            limit=result.limit,
            denials=result.denials,
            files=self._returned(result),
            usage=result.usage,
            timings=Timings.model_construct(
                queued=_text(self.queued),
                claimed=_text(self.claimed),
                started=_text(self.started),
                finished=_text(_now()),
            ),
        )

    def running(self, sandbox: SandboxStatus) -> ExecutionStatus:
        """Say how it stands while it runs. Its output so far is in its frames, not here."""
        timings = Timings.model_construct(
            queued=_text(self.queued),
            claimed=_text(self.claimed or _now()),
            started=_text(self.started),
            finished=None,
        )
        return ExecutionStatus.model_construct(
            name=self.name,
            tool=self.tool,
            attempt=self.attempt,
            phase=Phase.RUNNING,
            timings=timings,
            sandbox=sandbox,
        )

    def _returned(self, result: ExecutionResult) -> tuple[OutputFile, ...]:
        """The files that came back, and by name and size alone those that were too large to."""
        came = [output_file(path, bytes(data), self.inline_bytes) for path, data in self.files.items()]
        too_large = [file for file in result.files if file.skipped is not None and file.size > 0]
        return (*came, *(OutputFile(path=file.path, size=file.size) for file in too_large))

    def refused(self, reason: Reason, message: str, error: ExecutionError | None = None) -> ExecutionStatus:
        """Say why it did not come to an end of its own. Output so far is kept."""
        return self.status(ExecutionResult(reason=reason, message=message, error=error))


async def execute(
    sandbox: Sandbox,
    request: ExecutionRequest,
    record: Record,
    files: Sequence[InputFile] = (),
    on_frame: OnFrame | None = None,
    *,
    read_file: ReadFile | None = None,
) -> ExecutionStatus:
    """Run one execution to its end.

    Whatever happens, a status comes back: a sandbox that is lost gives ``SandboxFailed``, one whose runner does not
    keep the deadline is killed and gives ``DeadlineExceeded``. When the caller is cancelled the tool is asked to
    end, and its partial output is not lost to ``on_frame``. ``read_file`` gives the content of files that do not
    have it in themselves.
    """
    record.claimed = _now()
    sent = False
    try:
        async with asyncio.timeout(_TAKING_SECONDS) as patience:
            for file in files:
                data = await read_file(file) if read_file and file.artifact else file.data
                await sandbox.put(file.path, data, int(file.mode, 8))
            await sandbox.start(request)
            sent = True
            wall = request.limits.wall_seconds + _STUCK_AFTER_SECONDS
            patience.reschedule(asyncio.get_running_loop().time() + wall)
            return await _follow(sandbox, request, record, on_frame)
    except TimeoutError:
        sandbox.kill()
        if not sent:
            return record.refused(Reason.SANDBOX_FAILED, "the sandbox did not take its files; it was killed")
        message = (
            "the deadline passed and the runner did not end the tool; the sandbox was killed from outside"
        )
        return record.refused(Reason.DEADLINE_EXCEEDED, message)
    except RequestRefusedError as error:
        return record.status(refusal_result(error, request))
    except (SandboxError, FrameError) as error:
        return record.refused(
            Reason.SANDBOX_FAILED, str(error), ExecutionError(type=type(error).__name__, message=str(error))
        )


async def _follow(
    sandbox: Sandbox, request: ExecutionRequest, record: Record, on_frame: OnFrame | None
) -> ExecutionStatus:
    async for frame in sandbox.frames():
        if frame.execution not in {None, request.id}:
            continue  # of an earlier execution in the same sandbox
        result = record.take(frame)
        if on_frame is not None:
            on_frame(frame)
        if result is not None:
            return record.status(with_text_result(request, record, result))
    raise SandboxLostError("the sandbox ended without a result")


def refusal_result(error: RequestRefusedError, request: ExecutionRequest) -> ExecutionResult:
    """Say what a refusal of the runner means for the execution: nothing of it ran."""
    reasons = {
        "DiskLimit": Reason.DISK_LIMIT,
        "PathRefused": Reason.INVALID_SPEC,
        "Unsupported": Reason.UNSUPPORTED,
    }
    reason = reasons.get(error.code, Reason.SANDBOX_FAILED)
    limit = None
    if reason is Reason.DISK_LIMIT:
        bytes_ = float(request.limits.disk_bytes)
        limit = LimitBreach(name="disk", value=bytes_, unit="bytes", enforced_by="file system size")
    return ExecutionResult(
        reason=reason,
        message=str(error),
        error=ExecutionError(type=error.code, message=str(error)),
        limit=limit,
    )


def with_text_result(request: ExecutionRequest, record: Record, result: ExecutionResult) -> ExecutionResult:
    """A command whose result is text has its standard output as its result; the runner need not send it twice."""
    if not result.succeeded or request.run.get("resultFormat") != "text":
        return result
    text = "".join(record.stdout)
    return replace(result, result=text) if len(text) <= _TEXT_RESULT_CHARACTERS else result


def output_file(path: str, data: bytes, inline_bytes: int = STATUS_FILE_BYTES) -> OutputFile:
    """Describe a file that came back; its content is in the status only if it is small."""
    text: str | None = None
    encoded: str | None = None
    if len(data) <= inline_bytes:
        try:
            text = data.decode()
        except UnicodeDecodeError:
            text = None
        if text is None or "\0" in text:
            text, encoded = None, b64encode(data).decode("ascii")
    return OutputFile.model_construct(
        path=path,
        size=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        content=text,
        content_base64=encoded,
    )


def _now() -> datetime:
    return datetime.now(UTC)


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else time_text(moment)
