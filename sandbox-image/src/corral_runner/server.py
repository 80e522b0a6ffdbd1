"""The runner's main loop: connections in, frames out, one owner, one execution at a time."""

import _socket
import os
import select
import time

from corral_runner import kernel, landlock, procfs
from corral_runner.cell import NAMESPACE_LAYERS, WORKSPACE
from corral_runner.frames import FrameBuffer
from corral_runner.jsonlines import MAX_LINE_BYTES, MalformedLine, decode, encode
from corral_runner.processes import Processes
from corral_runner.supervisor import Supervisor
from corral_runner.workspace import Refused, Workspace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from corral_runner.settings import Settings

PROTOCOL = 1
VERSION = "0.1.0"
#: Sent at most this much to one reader before the loop looks at the others.
_BURST_LINES = 64


class Connection:
    """One peer: what it may do, what it has sent, which frame it gets next."""

    __slots__ = ("cursor", "incoming", "may_read", "may_start", "outgoing", "socket")

    def __init__(self, socket: "_socket.socket", *, may_start: bool, may_read: bool) -> None:
        socket.setblocking(False)
        self.socket = socket
        self.may_start = may_start
        self.may_read = may_read
        self.incoming = b""
        self.outgoing = b""
        #: Sequence number of the next frame to send, None until the peer follows.
        self.cursor: int | None = None


class Server:
    """Serves one sandbox until it is released or nobody is left who could."""

    def __init__(self, settings: "Settings", workspace: str = WORKSPACE) -> None:
        self._settings = settings
        self._poll = select.poll()
        self._handlers: dict[int, Callable[[], None]] = {}
        self._connections: dict[int, Connection] = {}
        self._listener: _socket.socket | None = None
        self._tokens: dict[str, tuple[bool, bool]] = {}
        self._released = False
        self._owner: tuple[str, int] | None = None
        self._executions: set[str] = set()
        self._current: Supervisor | None = None
        self._processes = Processes()
        self._written = procfs.WriteMeter()
        self._workspace = Workspace(workspace)
        self._frames = FrameBuffer()
        self._frames.append("ready", runner=VERSION, protocol=PROTOCOL, isolation=self._isolation(), weakened=settings.weakened)
        # Whoever shares the sandbox must not read or trace the runner, whatever its user.
        kernel.prctl(kernel.PR_SET_DUMPABLE, 0)

    def _isolation(self) -> "list[str]":
        settings = self._settings
        layers = [*settings.outer]
        if settings.holds("namespaces"):
            layers += [name for name in NAMESPACE_LAYERS if name not in layers]
        if settings.holds("rlimits"):
            layers.append("rlimits")
        if settings.holds("seccomp"):
            layers.append("seccomp")
        if settings.holds("landlock") and landlock.abi():
            layers.append("landlock")
        return layers

    # --- serving ---

    def adopt(self, socket: "_socket.socket") -> None:
        """Serve a connection whose other end may do everything, such as an inherited socket pair."""
        self._add(Connection(socket, may_start=True, may_read=True))

    def listen(self, listener: "_socket.socket", start_token: str, read_token: str) -> None:
        """Accept connections that say ``hello`` with one of the tokens."""
        listener.setblocking(False)
        self._listener = listener
        self._tokens = {start_token: (True, True), read_token: (False, True)}
        self.watch(listener.fileno(), select.POLLIN, self._accept)

    def serve(self) -> None:
        """Run until released, or, without a listener, until the last connection is gone."""
        while not self._released and (self._connections or self._listener is not None):
            timeout = None
            if self._current is not None:
                timeout = max(0.0, (self._current.next_wake() - time.monotonic()) * 1000)
            for descriptor, _events in self._poll.poll(timeout):
                handler = self._handlers.get(descriptor)
                if handler is not None:
                    handler()
            if self._current is not None:
                self._current.tick() if not self._current.finished else None
                if self._current.finished:
                    self._current = None
            for connection in list(self._connections.values()):
                self._flush(connection)
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
            descriptor, _address = self._listener._accept()  # noqa: SLF001 - the C socket's accept
        except BlockingIOError:
            return
        self._add(Connection(_socket.socket(fileno=descriptor), may_start=False, may_read=False))

    def _add(self, connection: Connection) -> None:
        descriptor = connection.socket.fileno()
        self._connections[descriptor] = connection
        self.watch(descriptor, select.POLLIN, lambda: self._receive(connection))

    def _drop(self, connection: Connection) -> None:
        descriptor = connection.socket.fileno()
        if self._connections.pop(descriptor, None) is not None:
            self.unwatch(descriptor)
            connection.socket.close()

    def _receive(self, connection: Connection) -> None:
        try:
            data = connection.socket.recv(262144)
        except BlockingIOError:
            # Woken to send: the loop flushes after the handlers.
            return
        except OSError:
            data = b""
        if not data:
            self._drop(connection)
            return
        connection.incoming += data
        *lines, connection.incoming = connection.incoming.split(b"\n")
        if len(connection.incoming) > MAX_LINE_BYTES:
            self._refuse(connection, "LineTooLong", f"no line may be longer than {MAX_LINE_BYTES} bytes")
            self._drop(connection)
            return
        for line in lines:
            try:
                request = decode(line)
                operation = request["op"]
            except (MalformedLine, TypeError, KeyError) as error:
                self._refuse(connection, "MalformedRequest", f"not a request: {error}")
                continue
            try:
                self._request(connection, operation, request)
            except Refused as error:
                self._refuse(connection, "PathRefused", str(error))
            except (KeyError, TypeError, ValueError) as error:
                self._refuse(connection, "MalformedRequest", f"{operation}: {type(error).__name__}: {error}")
            except OSError as error:
                self._refuse(connection, "SandboxFailed", f"{operation}: {error}")

    def _flush(self, connection: Connection) -> None:
        lines = self._frames.lines
        while connection.outgoing or (connection.cursor is not None and connection.cursor < len(lines)):
            if not connection.outgoing and connection.cursor is not None:
                end = connection.cursor + _BURST_LINES
                connection.outgoing = b"".join(lines[connection.cursor : end])
                connection.cursor = min(end, len(lines))
            try:
                sent = connection.socket.send(connection.outgoing)
            except BlockingIOError:
                self._poll.modify(connection.socket.fileno(), select.POLLIN | select.POLLOUT)
                return
            except OSError:
                self._drop(connection)
                return
            connection.outgoing = connection.outgoing[sent:]
        if connection.socket.fileno() in self._connections:
            self._poll.modify(connection.socket.fileno(), select.POLLIN)

    def _refuse(self, connection: Connection, code: str, message: str) -> None:
        connection.outgoing += encode({"type": "error", "code": code, "message": message})

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
        elif operation == "put":
            self._put(connection, request)
        elif operation == "get":
            self._get(connection, str(request["path"]))
        elif operation == "release":
            self._released = True
        else:
            self._refuse(connection, "UnknownOperation", f"no operation {operation!r}")

    def _hello(self, connection: Connection, token: str) -> None:
        import hmac

        for known, (may_start, may_read) in self._tokens.items():
            if hmac.compare_digest(known.encode(), token.encode()):
                connection.may_start, connection.may_read = may_start, may_read
                return
        self._refuse(connection, "Unauthenticated", "no such token")

    def _start(self, connection: Connection, request: "dict[str, Any]") -> None:
        owner = (str(request["owner"]["uid"]), int(request["owner"]["attempt"]))
        execution = request["execution"]
        ident = str(execution["id"])
        if self._owner is not None and owner != self._owner:
            self._refuse(connection, "OwnedByAnother", "this sandbox serves another task or attempt")
            return
        if ident in self._executions:
            return  # a re-attach: the frames of the first start are the answer
        if self._current is not None:
            self._refuse(connection, "Busy", "an execution is running; a sandbox runs one at a time")
            return
        unenforced = self._unenforced(execution)
        if unenforced:
            self._refuse(connection, "Unsupported", unenforced)
            return
        self._owner = owner
        self._executions.add(ident)
        self._frames.execution = ident
        supervisor = Supervisor(
            execution, self._settings, self._frames, self, self._workspace, self._processes, self._written
        )
        supervisor.start(owner[1])
        self._current = supervisor

    def _unenforced(self, execution: "dict[str, Any]") -> "str | None":
        """What the task asks that this kernel cannot enforce. Nothing runs with less than it asked for."""
        if not self._settings.holds("landlock") or landlock.abi():
            return None
        permissions = execution.get("permissions", [])
        if execution.get("allowedPaths", ["."]) != ["."]:
            return "allowedPaths needs Landlock, which this kernel does not have (Linux 5.13, CONFIG_SECURITY_LANDLOCK)"
        if "write" not in permissions and "admin" not in permissions and self._settings.bound_workspace:
            return "a bound workspace without the write permission needs Landlock, which this kernel does not have"
        return None

    def _put(self, connection: Connection, request: "dict[str, Any]") -> None:
        if self._current is not None:
            self._refuse(connection, "Busy", "files are put before a start")
            return
        import binascii

        data = binascii.a2b_base64(request["data"])
        self._workspace.put(
            str(request["path"]), data, int(request.get("mode", 0o644)), append=bool(request.get("append"))
        )

    def _get(self, connection: Connection, path: str) -> None:
        if self._current is not None:
            self._refuse(connection, "Busy", "files are read while no tool runs")
            return
        from corral_runner.frames import as_base64

        size, mode, chunks = self._workspace.read(path)
        head: dict[str, Any] = {"type": "file", "path": path, "size": size, "mode": mode}
        for data in chunks:
            connection.outgoing += encode({**head, "data": as_base64(data)["base64"], "last": False})
        connection.outgoing += encode({**head, "data": "", "last": True})


def detach_standard_streams() -> None:
    """Make descriptors 0 and 1 pipes that lead nowhere; a tool gets its own later.

    What the runner itself dies of still reaches its owner on descriptor 2.
    """
    read, write = os.pipe()
    os.dup2(read, 0)
    os.dup2(write, 1)
    os.close(read)
    os.close(write)
