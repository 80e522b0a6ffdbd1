"""The runner's main loop: connections in, frames out, one owner, one execution at a time."""

import _socket
import select
import time

from corral_runner import kernel, landlock, procfs, seccomp
from corral_runner.cell import NAMESPACE_LAYERS, WORKSPACE
from corral_runner.connection import Connection, LineTooLong, Tokens, comes_from_inside
from corral_runner.disk import Disk
from corral_runner.execution import Execution, owner_of
from corral_runner.frames import FrameBuffer, as_base64
from corral_runner.jsonlines import MalformedLine, decode, encode
from corral_runner.processes import Processes
from corral_runner.supervisor import Supervisor
from corral_runner.tool_process import ToolProcess
from corral_runner.workspace import Refused, Workspace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from corral_runner.settings import Settings

PROTOCOL = 1
VERSION = "0.1.0"
#: Peers at once on a listening socket. One that has not said who it is makes room for a new one.
_MOST_CONNECTIONS = 64
#: Of a message that repeats what a peer sent.
_MESSAGE_CHARACTERS = 1000


class Server:
    """Serves one sandbox until it is released or nobody is left who could."""

    def __init__(self, settings: "Settings", workspace: str = WORKSPACE) -> None:
        self._settings = settings
        self._poll = select.poll()
        self._handlers: dict[int, Callable[[], None]] = {}
        self._connections: dict[int, Connection] = {}
        self._listener: _socket.socket | None = None
        self._tokens: Tokens | None = None
        self._released = False
        self._owner: tuple[str, int] | None = None
        self._executions: set[str] = set()
        #: Why a file could not be put, so that nothing starts without it.
        self._missing_file: tuple[str, str] | None = None
        self._current: Supervisor | None = None
        #: Forked ahead for the first execution; later ones of a session fork when they start.
        self._unborn: ToolProcess | None = None
        self._processes = Processes()
        self._written = procfs.WriteMeter()
        self._workspace = Workspace(workspace)
        self._frames = FrameBuffer()
        told = {"isolation": self._isolation(), "weakened": settings.weakened}
        self._frames.append("ready", runner=VERSION, protocol=PROTOCOL, **told)
        if settings.holds("undumpable"):
            # Whoever shares the sandbox must not read or trace the runner, whatever its user.
            kernel.prctl(kernel.PR_SET_DUMPABLE, 0)

    def _isolation(self) -> "list[str]":
        settings = self._settings
        layers = [*settings.outer]
        if settings.resizable:
            layers += [name for name in NAMESPACE_LAYERS if name not in layers]
        if settings.holds("rlimits"):
            layers.append("rlimits")
        if settings.holds("seccomp") and seccomp.available():
            layers.append("seccomp")
        if settings.holds("landlock") and landlock.abi():
            layers.append("landlock")
        return layers

    # --- serving ---

    def adopt(self, socket: "_socket.socket") -> None:
        """Serve a connection whose other end may do everything, such as an inherited socket pair."""
        self._add(Connection(socket, may_start=True, may_read=True))

    def listen(self, listener: "_socket.socket", tokens: Tokens) -> None:
        """Accept connections that say ``hello`` with one of the tokens."""
        listener.setblocking(False)
        self._listener = listener
        self._tokens = tokens
        self.watch(listener.fileno(), select.POLLIN, self._accept)

    def serve(self) -> None:
        """Run until released, or, without a listener, until the last connection is gone."""
        self._unborn = ToolProcess(self._settings, self._workspace.path)
        while not self._released and (self._connections or self._listener is not None):
            timeout = None
            if self._current is not None:
                timeout = max(0.0, (self._current.next_wake() - time.monotonic()) * 1000)
            for descriptor, _events in self._poll.poll(timeout):
                handler = self._handlers.get(descriptor)
                if handler is not None:
                    handler()
            if self._current is not None:
                if not self._current.finished:
                    self._current.tick()
                if self._current.finished:
                    self._current = None
            for connection in list(self._connections.values()):
                self._serve_one(connection)
        if self._current is not None:
            self._processes.signal(9)

    def watch(self, descriptor: int, events: int, handler: "Callable[[], None]") -> None:
        self._handlers[descriptor] = handler
        self._poll.register(descriptor, events)

    def unwatch(self, descriptor: int) -> None:
        if self._handlers.pop(descriptor, None) is not None:
            self._poll.unregister(descriptor)

    # --- connections ---

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            descriptor, _address = self._listener._accept()  # type: ignore[attr-defined]  # noqa: SLF001 - C API
            socket = _socket.socket(fileno=descriptor)
            inside = comes_from_inside(socket)
        except OSError:  # taken back by the peer, or no descriptor is free
            return
        if inside:
            socket.close()
            return
        if len(self._connections) >= _MOST_CONNECTIONS:
            unknown = next((found for found in self._connections.values() if not found.may_read), None)
            if unknown is None:
                socket.close()
                return
            self._drop(unknown)
        self._add(Connection(socket, may_start=False, may_read=False))

    def _add(self, connection: Connection) -> None:
        descriptor = connection.socket.fileno()
        self._connections[descriptor] = connection
        self.watch(descriptor, select.POLLIN, connection.receive)

    def _drop(self, connection: Connection) -> None:
        descriptor = connection.socket.fileno()
        if self._connections.pop(descriptor, None) is not None:
            self.unwatch(descriptor)
            connection.close()

    def _serve_one(self, connection: Connection) -> None:
        """Act on the requests that have come, and send what is to be sent."""
        try:
            while True:
                for line in iter(connection.next_line, None):
                    self._act(connection, line)
                more = connection.send(self._frames.lines)
                if more or not connection.has_request:
                    break
        except LineTooLong as error:
            self._refuse(connection, "LineTooLong", str(error))
            connection.ended = True
            more = False
            try:
                connection.send([])
            except OSError:
                pass
        except OSError:
            connection.ended = True
            more = False
        if connection.ended:
            self._drop(connection)
            return
        events = (select.POLLIN if connection.listens else 0) | (select.POLLOUT if more else 0)
        self._poll.modify(connection.socket.fileno(), events)

    def _act(self, connection: Connection, line: bytes) -> None:
        operation = "a line"
        try:
            request = decode(line)
            if not isinstance(request, dict) or not isinstance(request.get("op"), str):
                raise MalformedLine("no JSON object with an op")
            operation = request["op"][:50]
            self._request(connection, request["op"], request)
        except Refused as error:
            self._fail(connection, operation, "PathRefused", str(error))
        except (LookupError, TypeError, ValueError, ArithmeticError, RecursionError) as error:
            message = str(error) or type(error).__name__
            self._fail(connection, operation, "MalformedRequest", f"{operation}: {message}")
        except OSError as error:
            full = error.errno in {28, 122}  # ENOSPC, EDQUOT
            self._fail(
                connection, operation, "DiskLimit" if full else "SandboxFailed", f"{operation}: {error}"
            )

    def _fail(self, connection: Connection, operation: str, code: str, message: str) -> None:
        if operation == "put":
            self._missing_file = code, message
        self._refuse(connection, code, message)

    def _refuse(
        self, connection: Connection, code: str, message: str, execution: "str | None" = None
    ) -> None:
        """Answer a request that is not done; where it was a start, with the execution's id."""
        about = {} if execution is None else {"execution": execution}
        connection.answer({"type": "error", "code": code, "message": message[:_MESSAGE_CHARACTERS], **about})

    # --- requests ---

    def _request(self, connection: Connection, operation: str, request: "dict[str, Any]") -> None:
        if operation == "hello":
            self._hello(connection, str(request["token"]))
        elif not connection.may_read:
            self._refuse(connection, "Unauthenticated", "say hello with a token first")
        elif operation == "follow":
            connection.cursor = max(0, int(request.get("from", 0)))
        elif not connection.may_start:
            self._refuse(connection, "Forbidden", f"this token may only follow, not {operation}")
        elif operation == "start":
            self._start(connection, request)
        elif operation == "cancel":
            if self._current is not None:
                self._current.cancel()
        elif operation in {"put", "get"} and self._current is not None:
            self._refuse(connection, "Busy", "files are put and read while no tool runs")
        elif operation == "put":
            self._put(request)
        elif operation == "get":
            self._get(connection, str(request["path"]))
        elif operation == "release":
            self._released = True
        else:
            self._refuse(connection, "UnknownOperation", f"no operation {operation!r}")

    def _hello(self, connection: Connection, token: str) -> None:
        rights = None if self._tokens is None else self._tokens.rights(token)
        if rights is None:
            self._refuse(connection, "Unauthenticated", "no such token")
        else:
            connection.may_start, connection.may_read = rights

    def _start(self, connection: Connection, request: "dict[str, Any]") -> None:
        owner = owner_of(request)
        execution = Execution(request.get("execution"))
        if self._owner is not None and owner != self._owner:
            self._refuse(
                connection, "OwnedByAnother", "this sandbox serves another task or attempt", execution.id
            )
            return
        if execution.id in self._executions:
            return  # a re-attach: the frames of the first start are the answer
        if self._current is not None:
            self._refuse(
                connection, "Busy", "an execution is running; a sandbox runs one at a time", execution.id
            )
            return
        if self._missing_file is not None:
            (code, message), self._missing_file = self._missing_file, None
            self._refuse(connection, code, f"not started without its files: {message}", execution.id)
            return
        unenforced = self._unenforced(execution)
        if unenforced:
            self._refuse(connection, "Unsupported", unenforced, execution.id)
            return
        supervisor = Supervisor(
            execution=execution,
            settings=self._settings,
            frames=self._frames,
            reactor=self,
            workspace=self._workspace,
            processes=self._processes,
            written=self._written,
            disk=Disk(self._settings, self._workspace.path, execution.limits.disk_bytes),
            process=self._unborn or ToolProcess(self._settings, self._workspace.path),
        )
        self._unborn = None
        self._frames.execution = execution.id
        supervisor.start(owner[1], request["execution"])
        self._owner = owner
        self._executions.add(execution.id)
        self._current = supervisor

    def _unenforced(self, execution: Execution) -> "str | None":
        """What the task asks that this kernel cannot enforce. Nothing runs with less than it asked for."""
        if self._settings.holds("seccomp") and not seccomp.available():
            return (
                "every sandbox needs seccomp filters, which this kernel does not have (CONFIG_SECCOMP_FILTER)"
            )
        if not self._settings.holds("landlock") or landlock.abi():
            return None
        needs = "needs Landlock, which this kernel does not have (Linux 5.13, CONFIG_SECURITY_LANDLOCK)"
        if execution.allowed_paths != ["."]:
            return f"allowedPaths {needs}"
        if not execution.may("write") and self._settings.bound_workspace:
            return f"a bound workspace without the write permission {needs}"
        return None

    def _put(self, request: "dict[str, Any]") -> None:
        import binascii

        data = binascii.a2b_base64(request["data"])
        mode = int(request.get("mode", 0o644))
        self._workspace.put(str(request["path"]), data, mode, append=bool(request.get("append")))

    def _get(self, connection: Connection, path: str) -> None:
        size, mode, chunks = self._workspace.read(path)
        head = {"type": "file", "path": path, "size": size, "mode": mode}

        def pieces() -> "Iterator[bytes]":
            for data in chunks:
                yield encode({**head, "data": as_base64(data)["base64"], "last": False})
            yield encode({**head, "data": "", "last": True})

        connection.answer_in_pieces(pieces())
