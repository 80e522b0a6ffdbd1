"""The tool's own process: takes the restrictions on, runs the tool, tells the runner how it went.

Runs in the child of a fork of the runner. Nothing here is trusted by the runner once the tool has control: what
arrives on the report channel is the tool's word about itself, bounded and parsed as such.
"""

import errno
import os
import sys
import time

from corral_runner import kernel, landlock, seccomp
from corral_runner.execution import Execution
from corral_runner.interface import InvalidArgument, PermissionRefused, ToolContext, ToolFailure
from corral_runner.jsonlines import decode, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    import _socket

    from corral_runner.limits import Limits
    from corral_runner.settings import Settings

_SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
#: Progress frames a second; a tool that reports more often loses the ones between.
_PROGRESS_PER_SECOND = 20


def become(
    settings: "Settings", workspace: str, channel: "_socket.socket", output: "tuple[int, int]"
) -> "NoReturn":
    """Turn this freshly forked process into the tool. Never returns.

    Args:
        settings: of this sandbox.
        workspace: absolute path.
        channel: to the runner; the request comes from it, the report goes to it.
        output: write ends for standard output and standard error.
    """
    status = 1
    try:
        _take_on(settings, workspace, channel, output)
        execution = Execution(_request())
        _environment(execution)
        _standard_input(execution.run.get("stdin"))
        listener = _restrict(execution, settings, workspace)
        report = Reporter()
        report.ready(listener)
        if settings.holds("rlimits"):
            execution.limits.apply_open_files()
        status = _run(execution, workspace, report)
    except BaseException as error:  # whatever it is, the runner must hear of it
        try:
            Reporter().failed("SandboxFailed", "the restrictions could not be applied", error)
        except BaseException:
            os._exit(71)  # EX_OSERR
    finally:
        os._exit(status)


def _take_on(
    settings: "Settings", workspace: str, channel: "_socket.socket", output: "tuple[int, int]"
) -> None:
    """Do what is the same whatever is to run."""
    os.setsid()
    os.dup2(output[0], 1)
    os.dup2(output[1], 2)
    os.dup2(channel.fileno(), 3)
    channel.detach()
    kernel.close_from(4)
    os.set_inheritable(3, False)
    os.umask(0o022)
    os.chdir(workspace)
    os.environ["HOME"] = workspace
    interpreters = [f"{path}/bin" for path in settings.readable if os.path.exists(f"{path}/bin/python3")]
    if interpreters:
        os.environ["PATH"] = ":".join([*interpreters, _SYSTEM_PATH])
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")  # if memory is short, the tool goes, not the runner
    except OSError:
        pass
    if settings.holds("capabilities"):
        kernel.drop_capabilities()
    kernel.prctl(kernel.PR_SET_DUMPABLE, 1)
    if settings.holds("landlock") or settings.holds("seccomp"):
        kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)


def _request() -> "Any":
    """Wait for the request. A runner that goes away without one needs no tool."""
    data = b""
    while not data.endswith(b"\n"):
        piece = os.read(3, 1 << 16)
        if not piece:
            os._exit(0)
        data += piece
    return decode(data)


def prepare() -> None:
    """Do once, before any fork, what is the same for every tool.

    Descriptors 0 to 2 are pipes here as they will be in the tool, so the stream objects suit both.
    """
    sys.stdin = sys.__stdin__ = open(0, encoding="utf-8", errors="replace", closefd=False)  # type: ignore[misc]
    # A line at a time, so that people can watch.
    sys.stdout = sys.__stdout__ = open(  # type: ignore[misc]
        1, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False
    )
    sys.stderr = sys.__stderr__ = open(  # type: ignore[misc]
        2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False
    )
    os.environ.clear()
    os.environ.update(
        {
            "PATH": _SYSTEM_PATH,
            "USER": "agent",
            "LOGNAME": "agent",
            "TMPDIR": "/tmp",  # noqa: S108 - private to the sandbox
            "LANG": "C.UTF-8",
            # Numeric libraries start a thread for every core of the host, each with megabytes of stack.
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "CORRAL_SANDBOX": "1",
        }
    )


def _environment(execution: "Execution") -> None:
    if execution.limits.cpu >= 2:
        os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = str(int(execution.limits.cpu))
    os.environ.update(execution.env)


def _standard_input(text: "str | None") -> None:
    if text is None:
        descriptor = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    else:
        descriptor = os.memfd_create("stdin", os.MFD_CLOEXEC)
        view = memoryview(text.encode(errors="surrogatepass"))
        while view:
            view = view[os.write(descriptor, view) :]
        os.lseek(descriptor, 0, os.SEEK_SET)
    os.dup2(descriptor, 0)
    os.close(descriptor)


def _restrict(execution: "Execution", settings: "Settings", workspace: str) -> "int | None":
    """Take every restriction on but the last, ``apply_open_files``; returns the filter's listener, if it has one."""
    if settings.holds("rlimits"):
        execution.limits.apply(private_users=settings.private_users)
    version = landlock.abi() if settings.holds("landlock") else 0
    if version:
        _restrict_paths(execution, settings, workspace, version)
    return _filter_calls(execution) if settings.holds("seccomp") else None


def _restrict_paths(execution: "Execution", settings: "Settings", workspace: str, version: int) -> None:
    directory = os.open(workspace, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    allowed: list[int] = []
    try:
        for path in execution.allowed_paths:
            try:
                # An earlier execution may have put a symbolic link there, to somewhere else.
                allowed.append(kernel.open_beneath(directory, path, os.O_PATH))
            except OSError:
                continue
        may_write = execution.may("write")
        scratch = ["/tmp", "/dev/shm"]  # noqa: S108 - private to the sandbox
        landlock.restrict(
            version,
            read=[*settings.readable] if may_write else [*settings.readable, *allowed],
            write=[*scratch, *allowed] if may_write else scratch,
            execute=execution.may("execute"),
        )
    finally:
        for descriptor in (directory, *allowed):
            os.close(descriptor)


def _filter_calls(execution: "Execution") -> "int | None":
    notify = seccomp.notifications_available()
    network: Any = execution.network
    execute = execution.may("execute")
    try:
        return seccomp.install(seccomp.program(network, execute=execute, notify=notify), notify=notify)
    except OSError:
        if not notify:
            raise
        # An outer filter, such as a container runtime's, already has the one listener.
        return seccomp.install(seccomp.program(network, execute=execute, notify=False), notify=False)


class Reporter:
    """The tool's side of the channel to the runner: descriptor 3."""

    __slots__ = ("_last", "_socket")

    def __init__(self) -> None:
        import _socket

        self._socket = _socket.socket(fileno=3)
        self._last = 0.0

    def ready(self, listener: "int | None") -> None:
        import _socket

        line = encode({"type": "ready", "listener": listener is not None})
        if listener is None:
            self._socket.sendall(line)
            return
        rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, listener.to_bytes(4, sys.byteorder))]
        self._socket.sendmsg([line], rights)
        os.close(listener)

    def progress(self, fraction: "float | None", message: str) -> None:
        now = time.monotonic()
        if now - self._last < 1 / _PROGRESS_PER_SECOND and fraction != 1:
            return
        self._last = now
        self._socket.sendall(encode({"type": "progress", "fraction": fraction, "message": str(message)[:1000]}))

    def result(self, value: "Any", limit_bytes: int) -> int:
        try:
            line = encode({"type": "result", "result": value})
        except (TypeError, ValueError, RecursionError) as error:
            self.failed("ToolError", f"the tool's result is not a JSON value: {error}", None)
            return 1
        if len(line) > limit_bytes:
            self.failed(
                "OutputLimit",
                f"the result is {len(line)} bytes, the limit is {limit_bytes}; write it to a file and name it in outputs",
                None,
            )
            return 1
        self._socket.sendall(line)
        return 0

    def failed(self, reason: str, message: str, error: "BaseException | None", **details: "Any") -> None:
        body: dict[str, Any] = {"type": "error", "reason": reason, "message": message[:10_000], **details}
        if error is not None:
            body["errorType"] = type(error).__name__
            body["cause"] = str(error)[:10_000]
        self._socket.sendall(encode(body))


def _run(execution: "Execution", workspace: str, report: Reporter) -> int:
    command = execution.run.get("command")
    if command is not None:
        return _execute(command, report)
    limits = execution.limits
    context = ToolContext(workspace, tuple(execution.allowed_paths), limits.output_bytes, report.progress)
    try:
        try:
            value = _function(execution.run)(execution.arguments, context)
        finally:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
        if code and isinstance(error.code, str):
            os.write(2, error.code.encode(errors="replace") + b"\n")
        return code & 0xFF
    except BaseException as error:
        _explain(error, report, limits)
        return 1
    return report.result(value, limits.result_bytes)


def _execute(command: "list[str]", report: Reporter) -> int:
    import _signal

    # Python ignores these two; a program expects the default.
    _signal.signal(_signal.SIGPIPE, _signal.SIG_DFL)
    _signal.signal(_signal.SIGXFSZ, _signal.SIG_DFL)
    try:
        os.execvpe(command[0], command, os.environ)  # noqa: S606 - the task's permission says whether it may
    except OSError as error:
        report.failed("ToolError", f"{command[0]} could not be executed: {error.strerror}", error)
    return 127 if not os.path.exists(command[0]) else 126


def _function(run: "dict[str, Any]") -> "Any":
    name = run.get("builtin")
    if name is not None:
        try:
            return __import__(f"corral_tools.{name}", fromlist=["run"]).run
        except ModuleNotFoundError as error:
            if error.name != f"corral_tools.{name}":
                raise
            raise ToolFailure(f"this sandbox image has no built-in tool {name!r}") from error
    function = run["function"]
    space: dict[str, Any] = {"__name__": "__tool__", "__builtins__": __builtins__}
    exec(compile(function["code"], "<function>", "exec"), space)  # noqa: S102 - running it is the purpose
    entrypoint = space.get(function.get("entrypoint", "main"))
    if not callable(entrypoint):
        raise ToolFailure(f"the code defines no function {function.get('entrypoint', 'main')!r}")

    def call(arguments: "dict[str, Any]", _context: ToolContext) -> "Any":
        value = entrypoint(**arguments)
        if hasattr(value, "__await__"):
            import asyncio

            async def wait() -> "Any":
                return await value

            return asyncio.run(wait())
        return value

    return call


def _explain(error: BaseException, report: Reporter, limits: "Limits") -> None:
    """Report an exception under the reason of its deepest cause that has one of its own."""
    chain: list[BaseException] = []
    cursor: BaseException | None = error
    while cursor is not None and cursor not in chain and len(chain) < 20:
        chain.append(cursor)
        cursor = cursor.__cause__ or (None if cursor.__suppress_context__ else cursor.__context__)
    reason = next((found for found in (_limit_reason(link, limits) for link in chain) if found), None)
    details: dict[str, Any] = {}
    if isinstance(error, InvalidArgument):
        reason, details["field"] = reason or "InvalidArguments", error.field
    elif isinstance(error, PermissionRefused):
        reason, details["rule"] = reason or "PermissionDenied", error.rule
    elif isinstance(error, ToolFailure):
        details["details"] = error.details
    else:
        import traceback

        traceback.print_exception(error)
        sys.stderr.flush()
    message = str(error) or type(error).__name__
    try:
        report.failed(reason or "ToolError", message, error, **details)
    except (TypeError, ValueError, RecursionError):
        report.failed(reason or "ToolError", message, error)


def _limit_reason(error: BaseException, limits: "Limits") -> "str | None":
    if isinstance(error, MemoryError):
        return "OutOfMemory"
    if isinstance(error, OSError):
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            return "DiskLimit"
        if error.errno == errno.EFBIG:
            return "FileSizeLimit"
        if error.errno == errno.ENOMEM:
            return "OutOfMemory"
        # Sockets and pipes say EAGAIN too: only a sandbox that is full makes it the process limit.
        if error.errno == errno.EAGAIN and _tasks_running() >= limits.processes:
            return "ProcessLimit"
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        return "ProcessLimit"
    return None


def _tasks_running() -> int:
    from corral_runner import procfs

    return procfs.sample(own_pid=1).tasks
