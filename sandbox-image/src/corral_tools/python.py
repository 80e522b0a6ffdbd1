"""Run Python code, as a script would run, and give back the value of its last expression.

Every call of the most used tool pays for what this module imports, so it imports nothing that the interpreter
has not loaded already; what an error needs is imported when there is one.
"""

import io
import os
import sys

from corral_runner.interface import ToolFailure
from corral_tools import bounds, files, json_values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from threading import Thread
    from types import CodeType, ModuleType, TracebackType
    from typing import Any

    from corral_runner.interface import JSON, ToolContext

#: What the code is called in tracebacks.
FILENAME = "<task>"
#: `ast.PyCF_ONLY_AST`, without the import of `ast` and what it imports (about 4 ms).
_ONLY_AST = 0x400
#: An error message longer than this is a dump of data; the whole of it is on stderr.
_MESSAGE_BYTES = 2000


def run(arguments: "Mapping[str, Any]", context: "ToolContext") -> "JSON":
    """The code runs as ``__main__``, with the workspace first on ``sys.path``.

    Raises:
        ToolFailure: from whatever the code raised, its traceback written to stderr.
        SystemExit: the code exited, with a status other than 0 or a message.
    """
    code: str = arguments["code"]
    files.encode(code, "code")
    stdin: str | None = arguments.get("stdin")
    stream = None if stdin is None else io.BytesIO(files.encode(stdin, "stdin"))
    module = type(sys)("__main__")
    process = os.getpid()
    restore = _stage(module, stream, context.workspace)
    status = 0
    try:
        result = json_values.from_python(_execute(code, module.__dict__))
        if os.getpid() == process:
            return result
    except SystemExit as error:
        status = _status(error)
        if os.getpid() == process:
            if status == 0:
                return None
            raise  # the runner ends the task with this status
    # Whatever the code raises, KeyboardInterrupt included, is the code's failure and not the runner's.
    except BaseException as error:
        failure = _failure(error, code, module.__dict__)
        if os.getpid() == process:
            raise failure from error
        status = 1
    finally:
        restore()
    # A child that the code forked has come to the code's end; it must not go on as if it were the runner.
    _flush()
    os._exit(status)


def _execute(code: str, namespace: "dict[str, Any]") -> object:
    """Run the code to its end; the value of its last expression, where it ends with one."""
    body, expression = _compile(code)
    known = _threads()
    if body is not None:
        exec(body, namespace)  # noqa: S102 - what this tool is for; the sandbox holds it
    value = None if expression is None else eval(expression, namespace)  # noqa: S307 - same
    # A script ends when its threads have (threading._shutdown); until then they may change the value.
    for thread in _threads() - known:
        if not thread.daemon:
            thread.join()
    return value


def _compile(code: str) -> "tuple[CodeType | None, CodeType | None]":
    """Return what to execute, and what to evaluate after it."""
    # One expression is what is asked most, and needs no tree, whose types cost 1.4 ms to set up. Where the code
    # begins with a blank the two modes differ: only a script is wrong then.
    if code[:1] not in {" ", "\t", ""}:
        try:
            return None, compile(code, FILENAME, "eval", dont_inherit=True)
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            pass  # not one expression, or wrong as well: then the script's error is the one to tell
    import _ast

    tree = compile(code, FILENAME, "exec", _ONLY_AST, dont_inherit=True)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], _ast.Expr) else None
    body = compile(tree, FILENAME, "exec", dont_inherit=True)
    if last is None:
        return body, None
    return body, compile(_ast.Expression(last.value), FILENAME, "eval", dont_inherit=True)


def _threads() -> "set[Thread]":
    threading = sys.modules.get("threading")
    return set() if threading is None else {*threading.enumerate()} - {threading.main_thread()}


def _stage(module: "ModuleType", stdin: io.BytesIO | None, workspace: str) -> "Callable[[], None]":
    """Make the process look as it does to a script, and say how to undo that.

    The module is in `sys.modules`, so that what it defines can be pickled and found by its name.
    """
    main, argv, path, old_stdin = sys.modules["__main__"], sys.argv, sys.path, sys.stdin
    written = sys.dont_write_bytecode
    sys.modules["__main__"] = module
    sys.argv = [FILENAME]
    sys.path = [workspace, *path]
    sys.dont_write_bytecode = True  # a __pycache__ in the workspace would be among the task's files
    if stdin is not None:
        sys.stdin = io.TextIOWrapper(stdin, encoding="utf-8")

    def restore() -> None:
        sys.modules["__main__"], sys.argv, sys.path, sys.stdin = main, argv, path, old_stdin
        sys.dont_write_bytecode = written

    return restore


def _status(error: SystemExit) -> int:
    """The status the process would exit with, derived as the interpreter does (handle_system_exit)."""
    if isinstance(error.code, int):
        return error.code & 0xFF
    return 0 if error.code is None else 1


def _failure(error: BaseException, code: str, namespace: "dict[str, Any]") -> ToolFailure:
    """What the caller gets to know of it; the traceback, with the code's own frames alone, goes to stderr."""
    error.__traceback__ = _user_frames(error.__traceback__)
    line = getattr(error, "lineno", None) if isinstance(error, SyntaxError) else _line(error.__traceback__)
    if isinstance(error, MemoryError):
        # The report needs memory too, and the data that took all of it is held by these frames.
        _release(error.__traceback__, namespace)
    try:
        _print_traceback(error, code)
    except MemoryError:
        _say("MemoryError\n")
    try:
        message = f"{type(error).__name__}: {error}".removesuffix(": ")
    except Exception:  # noqa: BLE001 - a __str__ may raise anything
        message = type(error).__name__
    return ToolFailure(bounds.clip(message, _MESSAGE_BYTES)[0], exception=type(error).__name__, line=line)


def _user_frames(frames: "TracebackType | None") -> "TracebackType | None":
    while frames is not None and frames.tb_frame.f_code.co_filename == run.__code__.co_filename:
        frames = frames.tb_next
    return frames


def _line(frames: "TracebackType | None") -> int | None:
    """The innermost line of the code that was being executed."""
    line = None
    while frames is not None:
        if frames.tb_frame.f_code.co_filename == FILENAME:
            line = frames.tb_lineno
        frames = frames.tb_next
    return line


def _release(frames: "TracebackType | None", namespace: "dict[str, Any]") -> None:
    namespace.clear()
    while frames is not None:
        frame, frames = frames.tb_frame, frames.tb_next
        try:
            frame.clear()
        except RuntimeError:  # still executing: a generator that is being closed
            continue


def _print_traceback(error: BaseException, code: str) -> None:
    import linecache
    import traceback

    # No modification time: the entry is not looked up in the file system (linecache.checkcache).
    linecache.cache[FILENAME] = (len(code), None, code.splitlines(keepends=True), FILENAME)
    _say("".join(traceback.format_exception(error)))


def _say(text: str) -> None:
    _flush()
    try:
        sys.stderr.write(text)
    except (AttributeError, OSError, ValueError):
        return  # the code closed or replaced it; the failure's message still goes out
    _flush()


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):  # the code closed or replaced it
            continue
