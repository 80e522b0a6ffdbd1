"""One execution from start to result: output, limits, deadline, cancel, and why it ended.

The order of what can happen is kept in one place, ``_conclude``: the first cause that applies is the reason.
"""

import _socket
import os
import resource
import select
import sys
import time

from corral_runner import cell, procfs, tool
from corral_runner.frames import TextChunks
from corral_runner.jsonlines import MalformedLine, decode
from corral_runner.limits import Limits
from corral_runner.processes import SIGCONT, SIGKILL, SIGSTOP, SIGTERM, Processes
from corral_runner.seccomp import Denials

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    from corral_runner.frames import FrameBuffer
    from corral_runner.settings import Settings
    from corral_runner.workspace import Workspace

    class Reactor(Protocol):
        def watch(self, descriptor: int, events: int, handler: Callable[[], None]) -> None: ...
        def unwatch(self, descriptor: int) -> None: ...


_READ_BYTES = 65536
#: After SIGTERM a tool has this long to write its last words before SIGKILL.
_GRACE_SECONDS = 0.5
_SAMPLE_FIRST_SECONDS, _SAMPLE_SECONDS, _SAMPLE_LATER_SECONDS = 0.004, 0.010, 0.020
_SAMPLE_LATER_AFTER_SECONDS = 1.0
_BOUND_WORKSPACE_SECONDS = 0.25
#: CPU time a tool may use ahead of its rate before it is stopped for a while.
_CPU_BURST_SECONDS = 0.1
_SIGXCPU, _SIGXFSZ = 24, 25
#: What a tool may say of itself; every other reason is found out, not told.
_TOLD = {
    "ToolError",
    "InvalidArguments",
    "PermissionDenied",
    "OutOfMemory",
    "ProcessLimit",
    "DiskLimit",
    "FileSizeLimit",
    "OutputLimit",
}


class Supervisor:
    """Runs one execution; ``finished`` becomes true when its result frame is written."""

    def __init__(
        self,
        request: "dict[str, Any]",
        settings: "Settings",
        frames: "FrameBuffer",
        reactor: "Reactor",
        workspace: "Workspace",
        processes: Processes,
        written: procfs.WriteMeter,
    ) -> None:
        self.finished = False
        self._request = request
        self._settings = settings
        self._frames = frames
        self._reactor = reactor
        self._workspace = workspace
        self._processes = processes
        self._written = written
        self.limits = Limits(request.get("limits", {}))
        self._stop_reason: str | None = None
        self._stop_message = ""
        self._stop_limit: dict[str, Any] | None = None
        self._kill_at: float | None = None
        self._told: dict[str, Any] | None = None
        self._value: Any = None
        self._ready = False
        self._output_bytes = 0
        self._truncated = False
        self._denials: Denials | None = None
        self._peak_bytes = 0
        self._peak_tasks = 0
        self._paused_until: float | None = None
        self._report_rest = b""
        self._streams: dict[int, tuple[str, TextChunks]] = {}

    def start(self, attempt: int) -> None:
        """Fork the tool. Everything it needs is prepared before, so that the child only takes things on."""
        if self._settings.holds("namespaces"):
            cell.resize(self.limits.disk_bytes)
        self._bound_before = self._bound_bytes()
        self._cpu_before = _children_cpu_seconds()
        self._written_before = self._written.read()
        work = tool.Work(self._request, self.limits)
        out_read, out_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        err_read, err_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        # The tool's ends must block, or a program that prints faster than the runner reads gets EAGAIN.
        os.set_blocking(out_write, True)
        os.set_blocking(err_write, True)
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)  # type: ignore[attr-defined]
        standard_input = self._standard_input()
        self._started = self._last_output = time.monotonic()
        self._pid = os.fork()
        if self._pid == 0:
            tool.become(work, self._settings, self._workspace.path, theirs, (out_write, err_write), standard_input)
        for descriptor in (out_write, err_write, standard_input):
            os.close(descriptor)
        theirs.close()
        ours.setblocking(False)
        self._report = ours
        self._pidfd = os.pidfd_open(self._pid)
        self._streams = {out_read: ("stdout", TextChunks()), err_read: ("stderr", TextChunks())}
        self._next_sample = self._started + _SAMPLE_FIRST_SECONDS
        self._next_bound_sample = self._started + _BOUND_WORKSPACE_SECONDS
        for descriptor in self._streams:
            self._reactor.watch(descriptor, select.POLLIN, self._reader(descriptor))
        self._reactor.watch(ours.fileno(), select.POLLIN, self._on_report)
        self._reactor.watch(self._pidfd, select.POLLIN, self._finish)
        self._frames.append("started", pid=self._pid, attempt=attempt)

    def cancel(self) -> None:
        self._stop("Cancelled", "the task was cancelled", gently=True)

    def next_wake(self) -> float:
        """When ``tick`` wants to be called, as time.monotonic() has it."""
        times = [self._started + self.limits.wall_seconds, self._next_sample]
        if self.limits.idle_seconds is not None:
            times.append(self._last_output + self.limits.idle_seconds)
        if self._kill_at is not None:
            times.append(self._kill_at)
        if self._paused_until is not None:
            times.append(self._paused_until)
        return min(times)

    def tick(self) -> None:
        """Look at clocks and meters."""
        now = time.monotonic()
        if self._kill_at is not None and now >= self._kill_at:
            self._kill_at = now + _GRACE_SECONDS
            self._processes.signal(SIGKILL)
        if self._paused_until is not None and now >= self._paused_until:
            self._paused_until = None
            self._processes.signal(SIGCONT)
        limits = self.limits
        if now - self._started >= limits.wall_seconds:
            self._exceeded("DeadlineExceeded", "timeout", limits.wall_seconds, "seconds", "runner clock", gently=True)
        elif limits.idle_seconds is not None and now - self._last_output >= limits.idle_seconds:
            self._exceeded("IdleTimeout", "idleTimeout", limits.idle_seconds, "seconds", "runner clock", gently=True)
        if now >= self._next_sample:
            self._sample(now)
            later = now - self._started > _SAMPLE_LATER_AFTER_SECONDS
            self._next_sample = now + (_SAMPLE_LATER_SECONDS if later else _SAMPLE_SECONDS)

    # --- what arrives ---

    def _reader(self, descriptor: int) -> "Callable[[], None]":
        def read() -> None:
            self._read_output(descriptor)

        return read

    def _read_output(self, descriptor: int) -> bool:
        """Take one chunk; whether there was one."""
        try:
            data = os.read(descriptor, _READ_BYTES)
        except BlockingIOError:
            return False
        name, chunks = self._streams[descriptor]
        if not data:
            self._reactor.unwatch(descriptor)
            return False
        self._last_output = time.monotonic()
        room = self.limits.output_bytes - self._output_bytes
        if room <= 0 and self._truncated:
            return True  # drained and thrown away until the kill has worked
        self._output_bytes += len(data)
        if len(data) > room:
            data = data[:room]
            self._truncated = True
            self._exceeded("OutputLimit", "output", self.limits.output_bytes, "bytes", "runner pipe")
        piece = chunks.feed(data)
        if piece:
            self._frames.append(name, **piece)
        return True

    def _on_report(self) -> None:
        while self._read_report():
            pass

    def _read_report(self) -> bool:
        try:
            data, rights, _flags, _address = self._report.recvmsg(_READ_BYTES, _socket.CMSG_SPACE(4 * 4))
        except BlockingIOError:
            return False
        for _level, _kind, content in rights:
            for start in range(0, len(content) - 3, 4):
                self._listener(int.from_bytes(content[start : start + 4], sys.byteorder))
        if not data:
            self._reactor.unwatch(self._report.fileno())
            return False
        self._report_rest += data
        *lines, self._report_rest = self._report_rest.split(b"\n")
        for line in lines:
            self._on_report_line(line)
        if len(self._report_rest) > self.limits.result_bytes + 4096:
            # Only a tool that writes to the channel itself gets here.
            self._report_rest = b""
            self._exceeded("OutputLimit", "result", self.limits.result_bytes, "bytes", "runner pipe")
        return True

    def _on_report_line(self, line: bytes) -> None:
        try:
            message = decode(line)
            kind = message["type"]
        except (MalformedLine, TypeError, KeyError):
            return
        if kind == "ready":
            self._ready = True
        elif kind == "progress":
            fraction = message.get("fraction")
            fraction = min(1.0, max(0.0, fraction)) if isinstance(fraction, int | float) else None
            self._frames.append("progress", fraction=fraction, message=str(message.get("message", ""))[:1000])
            self._last_output = time.monotonic()
        elif kind == "result":
            self._value = message.get("result")
        elif kind == "error" and self._told is None:
            told = message.get("reason") in _TOLD or (not self._ready and message.get("reason") == "SandboxFailed")
            self._told = message if told else {**message, "reason": "ToolError"}

    def _listener(self, descriptor: int) -> None:
        if self._denials is not None:  # one is all there can be; another is a tool's play
            os.close(descriptor)
            return
        self._denials = Denials(descriptor)
        self._reactor.watch(descriptor, select.POLLIN, self._denials.answer)

    # --- meters ---

    def _sample(self, now: float) -> None:
        if not self._settings.holds("sampling"):
            return
        self._processes.reap_orphans(self._pid)
        found = procfs.sample(os.getpid(), None if self._processes.alone else self._pid)
        self._peak_tasks = max(self._peak_tasks, found.tasks)
        self._peak_bytes = max(self._peak_bytes, found.resident_bytes)
        limits = self.limits
        if found.tasks > limits.processes:
            self._exceeded("ProcessLimit", "processes", limits.processes, "count", "sampler and RLIMIT_NPROC")
        if (
            found.resident_bytes > limits.memory_bytes
            and procfs.proportional_bytes(found.pids) > limits.memory_bytes
        ):
            self._exceeded("OutOfMemory", "memory", limits.memory_bytes, "bytes", "sampler")
        used = found.cpu_seconds + _children_cpu_seconds() - self._cpu_before
        if used > limits.cpu_seconds:
            self._exceeded("CPULimit", "cpuTime", limits.cpu_seconds, "seconds", "sampler and RLIMIT_CPU")
        ahead = used - limits.cpu * (now - self._started) - _CPU_BURST_SECONDS
        if ahead > 0 and self._paused_until is None and self._stop_reason is None:
            self._processes.signal(SIGSTOP)
            self._paused_until = now + ahead / limits.cpu
        if self._bound_before is not None and now >= self._next_bound_sample:
            self._next_bound_sample = now + _BOUND_WORKSPACE_SECONDS
            if (self._bound_bytes() or 0) - self._bound_before > limits.disk_bytes:
                self._exceeded("DiskLimit", "disk", limits.disk_bytes, "bytes", "sampler")

    def _bound_bytes(self) -> "int | None":
        if not self._settings.bound_workspace:
            return None
        from corral_runner.workspace import used_bytes

        return used_bytes(self._workspace.path)

    # --- the end ---

    def _exceeded(
        self, reason: str, name: str, value: float, unit: str, enforced_by: str, *, gently: bool = False
    ) -> None:
        shown = f"{value:g}" if isinstance(value, float) else str(value)
        self._stop(
            reason,
            f"the {name} limit of {shown} {unit} was exceeded",
            {"name": name, "value": value, "unit": unit, "enforcedBy": enforced_by},
            gently=gently,
        )

    def _stop(
        self, reason: str, message: str, limit: "dict[str, Any] | None" = None, *, gently: bool = False
    ) -> None:
        """End the execution for a reason; the first one counts."""
        if self._stop_reason is not None:
            return
        self._stop_reason, self._stop_message, self._stop_limit = reason, message, limit
        self._paused_until = None
        self._processes.signal(SIGTERM if gently else SIGKILL)
        self._processes.signal(SIGCONT)  # a stopped process takes no SIGTERM
        self._kill_at = time.monotonic() + _GRACE_SECONDS

    def _finish(self) -> None:
        """The tool's process has ended: nothing of it survives, and the result is written."""
        self._reactor.unwatch(self._pidfd)
        if self._settings.holds("sampling"):
            self._peak_tasks = max(self._peak_tasks, 1)
        status, everything_gone = self._processes.kill_and_reap(self._pid)
        for descriptor in list(self._streams):
            while self._read_output(descriptor):
                pass
            name, chunks = self._streams[descriptor]
            piece = chunks.flush()
            if piece:
                self._frames.append(name, **piece)
            self._reactor.unwatch(descriptor)
            os.close(descriptor)
        self._on_report()
        self._reactor.unwatch(self._report.fileno())
        if self._denials is not None:
            self._reactor.unwatch(self._denials.descriptor)
            self._denials.close()
        self._report.close()
        os.close(self._pidfd)
        body = self._conclude(status)
        if not everything_gone:
            body["message"] += "; a process of it is stuck in the kernel"
        self._frames.append("result", **body)
        self.finished = True

    def _conclude(self, status: "int | None") -> "dict[str, Any]":
        code = os.WEXITSTATUS(status) if status is not None and os.WIFEXITED(status) else None
        number = os.WTERMSIG(status) if status is not None and os.WIFSIGNALED(status) else None
        reason, message, error = self._cause(code, number)
        body: dict[str, Any] = {
            "reason": reason,
            "message": message,
            "exitCode": code,
            "signal": number,
            "result": self._value if reason == "Completed" else None,
            "error": error,
            "limit": self._stop_limit if reason == self._stop_reason else self._limit_of(reason),
            "truncated": self._truncated,
            "denials": self._denials.as_json() if self._denials is not None else [],
            "usage": self._usage(),
        }
        if reason == "Completed" and self._request["run"].get("resultFormat") == "json":
            self._value_from_output(body)
        body["files"] = self._send_outputs()
        return body

    def _cause(self, code: "int | None", number: "int | None") -> "tuple[str, str, dict[str, Any] | None]":
        told = self._told
        error = None
        if told is not None:
            error = {
                "type": str(told.get("errorType", "ToolFailure")),
                "message": str(told.get("message", "")),
                **{key: told[key] for key in ("field", "rule", "details", "cause") if key in told},
            }
        if self._stop_reason is not None:
            return self._stop_reason, self._stop_message, error
        if number == _SIGXCPU or code == 128 + _SIGXCPU:
            return "CPULimit", f"the cpuTime limit of {self.limits.cpu_seconds:g} s was exceeded", error
        if number == _SIGXFSZ or code == 128 + _SIGXFSZ:
            return "FileSizeLimit", f"a file reached the limit of {self.limits.file_size_bytes} bytes", error
        if told is not None and told["reason"] != "ToolError":
            return told["reason"], str(told.get("message", "")), error
        if number is None and code == 0 and told is None:
            return "Completed", "", None
        # The tool failed, and says nothing of why: what the sandbox saw decides.
        return self._evidence(code, number, error)

    def _evidence(
        self, code: "int | None", number: "int | None", error: "dict[str, Any] | None"
    ) -> "tuple[str, str, dict[str, Any] | None]":
        if self._denials is not None and self._denials.network:
            rule = {"rule": f"network: {self._request.get('network', 'none')}"}
            shown = {**(error or {"type": "NetworkDenied", "message": "no socket could be made"}), **rule}
            return "NetworkDenied", "the tool tried to use the network, and its task has network: none", shown
        if any(name.startswith("exec") for name, _ in (self._denials.counts if self._denials else ())):
            shown = {**(error or {"type": "PermissionDenied", "message": ""}), "rule": "permissions: execute"}
            return "PermissionDenied", "the tool tried to execute a program without the execute permission", shown
        if self._disk_full():
            return "DiskLimit", f"the disk limit of {self.limits.disk_bytes} bytes was reached", error
        if number is not None:
            return "ToolError", f"the tool was killed by signal {number}", error
        if error is not None:
            return "ToolError", error["message"], error
        return "ToolError", f"the tool ended with exit status {code}", error

    def _disk_full(self) -> bool:
        if not self._settings.holds("namespaces"):
            return False
        found = os.statvfs("/tmp")  # noqa: S108 - the cell's one file system
        return found.f_bavail * found.f_frsize < 4096 or found.f_ffree == 0

    def _limit_of(self, reason: str) -> "dict[str, Any] | None":
        limits = self.limits
        known: dict[str, tuple[str, float, str, str]] = {
            "CPULimit": ("cpuTime", limits.cpu_seconds, "seconds", "RLIMIT_CPU"),
            "FileSizeLimit": ("fileSize", limits.file_size_bytes, "bytes", "RLIMIT_FSIZE"),
            "DiskLimit": ("disk", limits.disk_bytes, "bytes", "file system size"),
            "OutOfMemory": ("memory", limits.memory_bytes, "bytes", "RLIMIT_DATA"),
            "ProcessLimit": ("processes", limits.processes, "count", "RLIMIT_NPROC"),
            "OutputLimit": ("result", limits.result_bytes, "bytes", "runner pipe"),
        }
        if reason not in known:
            return None
        return dict(zip(("name", "value", "unit", "enforcedBy"), known[reason], strict=True))

    def _value_from_output(self, body: "dict[str, Any]") -> None:
        text = "".join(
            frame.get("data", "")
            for frame in map(decode, self._frames.lines)
            if frame["type"] == "stdout" and frame.get("execution") == self._frames.execution
        )
        try:
            body["result"] = decode(text.encode(errors="surrogatepass"))
        except MalformedLine as error:
            body["reason"] = "ToolError"
            body["message"] = f"the command's output is not JSON, as its resultFormat says it is: {error}"

    def _usage(self) -> "dict[str, Any]":
        cpu = _children_cpu_seconds() - self._cpu_before
        # The kernel's own high-water mark of the largest process catches what lies between two samples; it is
        # the largest over this runner's life, so in a session it can only be used for the first execution.
        largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        written = self._written.read()
        if written is not None and self._written_before is not None:
            written = max(0, written - self._written_before - self._output_bytes)
        return {
            "cpuSeconds": round(cpu, 6),
            "peakMemoryBytes": max(self._peak_bytes, largest),
            "peakProcesses": self._peak_tasks,
            "wallSeconds": round(time.monotonic() - self._started, 6),
            "outputBytes": self._output_bytes,
            "writtenBytes": written,
        }

    def _send_outputs(self) -> "list[dict[str, Any]]":
        patterns = self._request.get("outputs", [])
        if not patterns:
            return []
        from corral_runner.frames import as_base64
        from corral_runner.workspace import Refused

        room = self._request.get("outputsLimitBytes", 16 << 20)
        files: list[dict[str, Any]] = []
        for path in self._workspace.find(patterns):
            try:
                size, mode, chunks = self._workspace.read(path)
            except Refused as error:
                files.append({"path": path, "size": 0, "skipped": str(error)})
                continue
            if size > room:
                why = f"{size} bytes, and {room} are left of the outputs limit"
                files.append({"path": path, "size": size, "skipped": why})
                continue
            room -= size
            left = size
            for data in chunks:
                left -= len(data)
                encoded = as_base64(data)["base64"]
                self._frames.append("file", path=path, size=size, mode=mode, data=encoded, last=left <= 0)
            if left > 0 or size == 0:
                self._frames.append("file", path=path, size=size, mode=mode, data="", last=True)
            files.append({"path": path, "size": size})
        return files

    def _standard_input(self) -> int:
        text = self._request["run"].get("stdin")
        if text is None:
            return os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        memory = os.memfd_create("stdin", os.MFD_CLOEXEC)
        view = memoryview(text.encode(errors="surrogatepass"))
        while view:
            view = view[os.write(memory, view) :]
        os.lseek(memory, 0, os.SEEK_SET)
        return memory


def _children_cpu_seconds() -> float:
    found = resource.getrusage(resource.RUSAGE_CHILDREN)
    return found.ru_utime + found.ru_stime
