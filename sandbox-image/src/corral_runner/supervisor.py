"""One execution from start to result: output, limits, deadline, cancel.

Why it ended is found out in ``verdict``; what it used up is measured in ``meters``.
"""

import os
import select
import time

from corral_runner import outputs, verdict
from corral_runner.denials import Denials
from corral_runner.jsonlines import MalformedLine, decode
from corral_runner.meters import Meters
from corral_runner.processes import SIGCONT, SIGKILL, SIGTERM, Processes
from corral_runner.report import Report, json_problem
from corral_runner.streams import Output, Stream
from corral_runner.verdict import Evidence, Stop, exceeded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    from corral_runner.cgroup import OomKills
    from corral_runner.disk import Disk
    from corral_runner.execution import Execution
    from corral_runner.frames import FrameBuffer
    from corral_runner.procfs import WriteMeter
    from corral_runner.settings import Settings
    from corral_runner.tool_process import ToolProcess
    from corral_runner.workspace import Workspace

    class Reactor(Protocol):
        def watch(self, descriptor: int, events: int, handler: Callable[[], None]) -> None: ...
        def unwatch(self, descriptor: int) -> None: ...


#: After SIGTERM a tool has this long to write its last words before SIGKILL.
_GRACE_SECONDS = 0.5
#: Of a report channel that a tool floods, so much is looked at in each round of the sampler.
_FLOOD_BYTES = 8192


class Supervisor:
    """Runs one execution; ``finished`` becomes true when its result frame is written."""

    def __init__(
        self,
        *,
        execution: "Execution",
        settings: "Settings",
        frames: "FrameBuffer",
        reactor: "Reactor",
        workspace: "Workspace",
        processes: Processes,
        written: "WriteMeter",
        disk: "Disk",
        oom_kills: "OomKills",
        process: "ToolProcess",
    ) -> None:
        self.finished = False
        self._execution = execution
        self._limits = execution.limits
        self._settings = settings
        self._frames = frames
        self._reactor = reactor
        self._workspace = workspace
        self._processes = processes
        self._meters = Meters(
            execution, settings, processes=processes, written=written, disk=disk, oom_kills=oom_kills
        )
        self._disk = disk
        #: Still waiting, until ``start``.
        self.process = process
        self._stop: Stop | None = None
        self._kill_at: float | None = None
        self._output = Output(execution.limits.output_bytes)
        self._denials: Denials | None = None
        #: Descriptors that are not watched until the next round, and what then looks at them.
        self._held: dict[int, Callable[[], None]] = {}

    def start(self, attempt: int, request: "dict[str, Any]") -> None:
        """Let the waiting process become the tool.

        Args:
            attempt: of the task.
            request: the ``execution`` object that this execution was read from.
        """
        process = self.process
        self._pid, self._pidfd = process.pid, process.pidfd
        ours = process.channel
        self._started = self._last_output = time.monotonic()
        process.begin(request)
        self._report = Report(ours, self._limits.result_bytes)
        self._streams = [
            Stream(process.stdout, "stdout", self._output, self._frames),
            Stream(process.stderr, "stderr", self._output, self._frames),
        ]
        for stream in self._streams:
            self._watch_stream(stream)
        self._reactor.watch(ours.fileno(), select.POLLIN, self._on_report)
        self._reactor.watch(self._pidfd, select.POLLIN, self._finish)
        self._meters.begin(self._pid, self._started)
        self._frames.append("started", pid=self._pid, attempt=attempt)

    def end(self, stop: Stop) -> None:
        """End it gently for a reason that is not its own."""
        self._end(stop, gently=True)

    def next_wake(self) -> float:
        """When ``tick`` wants to be called, as time.monotonic() has it."""
        times = [self._started + self._limits.wall_seconds, self._meters.next_wake]
        if self._limits.idle_seconds is not None:
            times.append(self._last_output + self._limits.idle_seconds)
        if self._kill_at is not None:
            times.append(self._kill_at)
        times += [stream.due for stream in self._streams if stream.due is not None]
        return min(times)

    def tick(self) -> None:
        """Look at clocks and meters, and at what is held back."""
        now = time.monotonic()
        if self._kill_at is not None and now >= self._kill_at:
            self._kill_at = now + _GRACE_SECONDS
            self._processes.signal(SIGKILL)
        wall, idle = self._limits.wall_seconds, self._limits.idle_seconds
        if now - self._started >= wall:
            self._end(exceeded("DeadlineExceeded", "timeout", wall, "seconds", "runner clock"), gently=True)
        elif idle is not None and now - self._last_output >= idle:
            self._end(exceeded("IdleTimeout", "idleTimeout", idle, "seconds", "runner clock"), gently=True)
        for stream in self._streams:
            if stream.due is not None and not stream.hold(now):
                self._watch_stream(stream)
                self._read(stream)
        if self._meters.due(now):
            stop = self._meters.look(now)
            if stop is not None:
                self._end(stop)
            for descriptor, look in list(self._held.items()):
                del self._held[descriptor]
                look()
            self._pass_progress_on(now)

    # --- what arrives ---

    def _watch_stream(self, stream: Stream) -> None:
        self._reactor.watch(stream.descriptor, select.POLLIN, lambda: self._on_output(stream))

    def _on_output(self, stream: Stream) -> None:
        now = time.monotonic()
        if stream.hold(now):
            self._last_output = now
            self._reactor.unwatch(stream.descriptor)
        else:
            self._read(stream)

    def _read(self, stream: Stream) -> None:
        size = stream.read()
        if size == 0:
            self._reactor.unwatch(stream.descriptor)
        elif size is not None:
            self._last_output = time.monotonic()
        if self._output.truncated:
            self._end(exceeded("OutputLimit", "output", self._limits.output_bytes, "bytes", "runner pipe"))

    def _on_report(self) -> None:
        """Take one piece: what a tool sends without end must not keep the runner from its other work."""
        size = self._report.read(_FLOOD_BYTES) if self._report.floods else self._report.read()
        descriptor = self._report.socket.fileno()
        if size == 0:
            self._reactor.unwatch(descriptor)
            return
        now = time.monotonic()
        if self._report.progress is not None:
            self._last_output = now
            self._pass_progress_on(now)
        if self._report.too_large:
            self._end(exceeded("OutputLimit", "result", self._limits.result_bytes, "bytes", "runner pipe"))
        if self._report.listener is not None and self._denials is None:
            self._denials = Denials(self._report.listener, self._limits)
            self._watch_refused_calls()
        if self._report.floods:
            self._hold(descriptor, self._on_report)

    def _on_refused_call(self) -> None:
        denials = self._denials
        assert denials is not None
        denials.answer()
        if denials.floods:
            self._hold(denials.descriptor, self._watch_refused_calls)

    def _watch_refused_calls(self) -> None:
        assert self._denials is not None
        self._reactor.watch(self._denials.descriptor, select.POLLIN, self._on_refused_call)

    def _hold(self, descriptor: int, look: "Callable[[], None]") -> None:
        self._reactor.unwatch(descriptor)
        self._held[descriptor] = look

    def _pass_progress_on(self, now: float) -> None:
        progress = self._report.take_progress(now)
        if progress is not None:
            self._frames.append("progress", **progress)

    # --- the end ---

    def _end(self, stop: Stop, *, gently: bool = False) -> None:
        """End the execution for a reason; the first one counts."""
        if self._stop is not None:
            if not gently:  # a limit broken in the grace after SIGTERM ends the grace
                self._processes.signal(SIGKILL)
            return
        self._stop = stop
        self._meters.stop_pausing()
        self._processes.signal(SIGTERM if gently else SIGKILL)
        self._processes.signal(SIGCONT)  # a stopped process takes no SIGTERM
        self._kill_at = time.monotonic() + _GRACE_SECONDS

    def _finish(self) -> None:
        """The tool's process has ended: nothing of it survives, and the result is written."""
        self._reactor.unwatch(self._pidfd)
        seen = os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if seen is None or seen.si_code != os.CLD_EXITED or seen.si_status != 0:
            self._meters.last_look()
        status, everything_gone = self._processes.kill_and_reap(self._pid)
        for stream in self._streams:
            self._reactor.unwatch(stream.descriptor)
            stream.finish()
        self._reactor.unwatch(self._report.socket.fileno())
        self._report.drain()
        if self._report.progress is not None:
            self._frames.append("progress", **self._report.progress)
        if self._denials is not None:
            self._reactor.unwatch(self._denials.descriptor)
        body = self._body(status)
        if not everything_gone:
            body["message"] += "; a process of it is stuck in the kernel"
        self._report.close()
        os.close(self._pidfd)
        self._frames.append("result", **body)
        self.finished = True

    def _body(self, status: "int | None") -> "dict[str, Any]":
        found = Evidence(status, self._stop, self._report.told)
        if self._output.truncated and found.stop is None:
            found.stop = exceeded("OutputLimit", "output", self._limits.output_bytes, "bytes", "runner pipe")
        if self._report.too_large and found.stop is None:
            found.stop = exceeded("OutputLimit", "result", self._limits.result_bytes, "bytes", "runner pipe")
        if found.failed:
            self._gather(found)
        value = self._report.value
        if not found.failed and self._execution.run.get("resultFormat") == "json":
            value = self._value_from_output(found)
        reached = verdict.reach(found, self._execution)
        return {
            "reason": reached.reason,
            "message": reached.message,
            "exitCode": found.code,
            "signal": found.number,
            "result": value if reached.reason == "Completed" else None,
            "error": reached.error,
            "limit": reached.limit,
            "truncated": self._output.truncated,
            "denials": self._denials.as_json() if self._denials is not None else [],
            "usage": self._meters.usage(self._output),
            "files": outputs.send(self._workspace, self._execution, self._frames),
        }

    def _gather(self, found: Evidence) -> None:
        """Collect what the sandbox saw of a tool that failed."""
        if self._denials is not None:
            found.denied_network = self._denials.network
            found.denied_execution = self._denials.execution
            found.denied_memory = self._denials.memory_refused
        found.disk_was_full = self._disk.was_full
        found.cut_file = self._disk.holds_file_of(self._limits.file_size_bytes)
        found.peak_tasks = self._meters.peak_tasks
        found.kernel_killed = self._meters.kernel_killed()

    def _value_from_output(self, found: Evidence) -> "Any":
        """Read the result of a command whose output is one JSON value."""
        text = b"".join(
            frame["data"].encode() if "data" in frame else b"\xff"
            for frame in map(decode, self._frames.lines)
            if frame["type"] == "stdout" and frame.get("execution") == self._frames.execution
        )
        if len(text) > self._limits.result_bytes:
            found.stop = exceeded("OutputLimit", "result", self._limits.result_bytes, "bytes", "runner pipe")
            return None
        problem: str | None
        try:
            value = decode(text)
            problem = json_problem(value)
        except MalformedLine as error:
            value, problem = None, str(error)
        if problem is not None:
            message = f"the command's output is not JSON, as its resultFormat says it is: {problem}"
            found.told = {"reason": "ToolError", "message": message}
        return value
