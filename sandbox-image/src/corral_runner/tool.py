"""The tool's own process: takes the restrictions on, runs the tool, tells the runner how it went.

Runs in the child of a fork of the runner. Nothing here is trusted by the runner once the tool has control: what
arrives on the report channel is the tool's word about itself, bounded and parsed as such.
"""

import os
import sys

from corral_runner import kernel, landlock, seccomp
from corral_runner.execution import Execution
from corral_runner.interface import ToolContext, ToolFailure
from corral_runner.jsonlines import decode
from corral_runner.reporter import Reporter

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from typing import Any, NoReturn

    from corral_runner.settings import Settings

_SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"


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
    import _signal  # type: ignore[import-not-found]  # loaded by every interpreter

    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())  # see ``termination``
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
    sys.stdin = sys.__stdin__ = _stream(0, "r", errors="replace")  # type: ignore[misc]
    sys.stdout = sys.__stdout__ = _stream(1, "w", errors="backslashreplace")  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _stream(2, "w", errors="backslashreplace")  # type: ignore[misc]
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


def _stream(descriptor: int, mode: str, *, errors: str) -> "Any":
    # A line at a time, so that people can watch what is printed.
    buffering = 1 if mode == "w" else -1
    return open(descriptor, mode, buffering, encoding="utf-8", errors=errors, closefd=False)


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
        report.explain(error, limits)
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
