"""The runner's main loop: connections in, frames out, one owner, one execution at a time."""

import select
import time

from corral_runner import gate, kernel, layers, procfs
from corral_runner.cell import WORKSPACE
from corral_runner.cgroup import OomKills
from corral_runner.connection import Connection, LineTooLong
from corral_runner.disk import Disk
from corral_runner.execution import Execution, Refusal, owner_of
from corral_runner.frames import FrameBuffer, as_base64
from corral_runner.jsonlines import MalformedLine, decode, encode
from corral_runner.life import Life
from corral_runner.processes import Processes
from corral_runner.supervisor import Supervisor
from corral_runner.termination import Termination
from corral_runner.tool_process import ToolProcess
from corral_runner.verdict import Stop
from corral_runner.workspace import Refused, Workspace

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable, Iterator
    from typing import Any

    from corral_runner.environment import Environment
    from corral_runner.listener import Listener
    from corral_runner.settings import Settings
    from corral_runner.standard_streams import StandardStreams

PROTOCOL = 1
VERSION = "0.1.0"
#: Peers at once on a listening socket. One that has not said who it is makes room for a new one.
_MOST_CONNECTIONS = 64
#: Of a message that repeats what a peer sent.
_MESSAGE_CHARACTERS = 1000
#: How often to look whether the last readers have taken everything; nothing wakes the loop for that.
_FLUSH_LOOK_SECONDS = 0.005


class Server:
    """Serves one sandbox until it is released or nobody is left who could."""

    def __init__(
        self, settings: "Settings", workspace: str = WORKSPACE, environment: "Environment | None" = None
    ) -> None:
        self._settings = settings
        self._environment = environment
        self._poll = select.poll()
        self._handlers: dict[int, Callable[[], None]] = {}
        self._connections: dict[int, Connection] = {}
        self._listener: Listener | None = None
        self._life = Life(settings, time.monotonic())
        self._released = False
        self._owner: tuple[str, int] | None = None
        #: It served nobody when it was to be taken away, and will serve nobody.
        self._retired = False
        #: Ids of executions, in order.
        self._executions: dict[str, None] = {}
        #: Why a file could not be put, so that nothing starts without it.
        self._missing_file: tuple[str, str] | None = None
        self._current: Supervisor | gate.Gate | None = None
        #: Forked ahead for the first execution; later ones of a session fork when they start.
        self._unborn: ToolProcess | None = None
        self._processes = Processes()
        self._written = procfs.WriteMeter()
        self._oom_kills = OomKills()
        self._workspace = Workspace(workspace)
        self._frames = FrameBuffer()
        self._frames.append(
            "ready",
            runner=VERSION,
            protocol=PROTOCOL,
            isolation=layers.in_force(settings),
            weakened=[*settings.weakened, *sorted(settings.refused)],
        )
        if settings.holds("undumpable"):
            # Whoever shares the sandbox must not read or trace the runner, whatever its user.
            kernel.prctl(kernel.PR_SET_DUMPABLE, 0)

    # --- serving ---

    def adopt(self, socket: "_socket.socket | StandardStreams") -> None:
        """Serve a connection whose other end may do everything, such as an inherited socket pair."""
        self._add(Connection(socket, may_start=True, may_read=True))

    def listen(self, listener: "Listener") -> None:
        """Accept connections that say ``hello`` with one of the tokens."""
        self._listener = listener
        self.watch(listener.socket.fileno(), select.POLLIN, self._accept)
        termination = Termination()

        def look() -> None:
            if termination.take():
                self._leave()

        self.watch(termination.descriptor, select.POLLIN, look)

    def serve(self) -> None:
        """Run until released, or, without a listener, until the last connection is gone."""
        self._unborn = ToolProcess(self._settings, self._workspace.path)
        while not self._is_over():
            for descriptor, _events in self._poll.poll(self._timeout_milliseconds()):
                handler = self._handlers.get(descriptor)
                if handler is not None:
                    handler()
            if self._current is not None:
                if not self._current.finished:
                    self._current.tick()
                if self._current.finished:
                    self._current = None
                    self._life.execution_ended(time.monotonic())
            for connection in list(self._connections.values()):
                self._serve_one(connection)
        if self._current is not None:
            self._processes.signal(9)

    def _is_over(self) -> bool:
        if self._released:
            return True
        if self._listener is None:
            return not self._connections
        if self._current is not None:
            return False
        unread = self._life.leaving and any(
            connection.is_behind(self._frames.lines) for connection in self._connections.values()
        )
        return self._life.is_over(time.monotonic(), unread=unread)

    def _timeout_milliseconds(self) -> "float | None":
        if self._current is not None:
            wake: float | None = self._current.next_wake()
        elif self._listener is None:
            return None
        elif self._life.leaving:
            return _FLUSH_LOOK_SECONDS * 1000
        else:
            wake = self._life.ends_at()
        return None if wake is None else max(0.0, (wake - time.monotonic()) * 1000)

    def _leave(self) -> None:
        """Whoever runs the container takes it away: end what runs, tell, and go."""
        self._life.leaving = True
        if self._current is not None:
            self._current.end(Stop("Cancelled", "the sandbox is being taken away"))

    def watch(self, descriptor: int, events: int, handler: "Callable[[], None]") -> None:
        self._handlers[descriptor] = handler
        self._poll.register(descriptor, events)

    def unwatch(self, descriptor: int) -> None:
        if self._handlers.pop(descriptor, None) is not None:
            self._poll.unregister(descriptor)

    # --- connections ---

    def _accept(self) -> None:
        assert self._listener is not None
        socket = self._listener.accept()
        if socket is None:
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
        self._poll.modify(connection.socket.fileno(), connection.wait_for(events))

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
        elif operation == "prove" and self._listener is not None:
            connection.answer({"type": "proof", "proof": self._listener.proof(str(request["nonce"]))})
        elif not connection.may_read:
            self._refuse(connection, "Unauthenticated", "say hello with a token first")
        elif operation == "follow":
            connection.cursor = max(0, int(request.get("from", 0)))
        elif operation == "describe":
            self._describe(connection)
        elif not connection.may_start:
            self._refuse(connection, "Forbidden", f"this token may only follow, not {operation}")
        else:
            self._life.owner_spoke(time.monotonic())
            self._owners_request(connection, operation, request)

    def _owners_request(self, connection: Connection, operation: str, request: "dict[str, Any]") -> None:
        if operation == "start":
            self._start(connection, request)
        elif operation == "cancel":
            if self._current is not None and ("owner" not in request or owner_of(request) == self._owner):
                self._current.end(Stop("Cancelled", "the task was cancelled"))
        elif operation == "put" and "owner" in request and not self._takes(owner_of(request)):
            self._refuse_owner(connection)
        elif operation in {"put", "get"} and self._current is not None:
            self._refuse(connection, "Busy", "files are put and read while no tool runs")
        elif operation == "put":
            if "owner" in request:
                self._owner = owner_of(request)  # before a byte of it is here: nobody else gets to read it
            self._put(request)
        elif operation == "get":
            self._get(connection, str(request["path"]))
        elif operation == "retire":
            self._retired = self._owner is None
            self._describe(connection)
        elif operation == "release":
            self._released = True
        else:
            self._refuse(connection, "UnknownOperation", f"no operation {operation!r}")

    def _hello(self, connection: Connection, token: str) -> None:
        rights = None if self._listener is None else self._listener.rights(token)
        if rights is None:
            self._refuse(connection, "Unauthenticated", "no such token")
        else:
            connection.may_start, connection.may_read = rights

    def _describe(self, connection: Connection) -> None:
        owner = None if self._owner is None else {"uid": self._owner[0], "attempt": self._owner[1]}
        running = self._current is not None and not self._current.finished
        executions = list(self._executions)
        connection.answer(
            {
                "type": "description",
                "owner": owner,
                "executions": executions,
                "running": running,
                "retired": self._retired,
            }
        )

    def _takes(self, owner: "tuple[str, int]") -> bool:
        return not self._retired and self._owner in {None, owner}

    def _refuse_owner(self, connection: Connection, execution: "str | None" = None) -> None:
        why = "is being taken away" if self._retired else "serves another task or attempt"
        self._refuse(connection, "OwnedByAnother", f"this sandbox {why}", execution)

    def _start(self, connection: Connection, request: "dict[str, Any]") -> None:
        owner = owner_of(request)
        execution = Execution(request.get("execution"))
        if not self._takes(owner):
            self._refuse_owner(connection, execution.id)
            return
        if execution.id in self._executions:
            return  # a re-attach: the frames of the first start are the answer
        refusal = self._refusal(execution)
        if refusal is not None:
            self._refuse(connection, *refusal, execution.id)
            return
        asked = request["execution"]
        if execution.secret_env:
            assert self._environment is not None
            secrets = self._environment.secrets(execution.secret_env)
            asked = {**asked, "env": {**execution.env, **secrets}, "secretEnv": []}
        try:
            disk = Disk(self._settings, self._workspace.path, execution.limits.disk_bytes)
        except OSError as error:
            self._refuse(connection, "DiskLimit", f"not started: {error.strerror}", execution.id)
            return
        supervisor = Supervisor(
            execution=execution,
            settings=self._settings,
            frames=self._frames,
            reactor=self,
            workspace=self._workspace,
            processes=self._processes,
            written=self._written,
            disk=disk,
            oom_kills=self._oom_kills,
            process=self._unborn or ToolProcess(self._settings, self._workspace.path),
        )
        self._unborn = None
        self._frames.execution = execution.id
        if execution.refused_first is None:
            supervisor.start(owner[1], asked)
            self._current = supervisor
        else:
            self._current = self._gate(execution.refused_first, supervisor, owner[1], asked)
        self._owner = owner
        self._executions[execution.id] = None

    def _gate(
        self, refused: Refusal, supervisor: Supervisor, attempt: int, asked: "dict[str, Any]"
    ) -> gate.Gate:
        """Let the execution start when the cluster's network policy is seen."""

        def opened() -> None:
            try:
                supervisor.start(attempt, asked)
            except OSError as error:
                tell(Stop("SandboxFailed", f"the tool could not be started: {error}"))
            else:
                self._current = supervisor

        def closed(stop: Stop) -> None:
            self._unborn = supervisor.process
            tell(stop)

        def tell(stop: Stop) -> None:
            self._frames.append("result", **gate.result_of_nothing(stop))

        return gate.Gate(refused, self, opened, closed)

    def _refusal(self, execution: Execution) -> "tuple[str, str] | None":
        """Why an execution does not start, as code and message."""
        if self._life.leaving:
            return "SandboxFailed", "the sandbox is being taken away"
        if self._current is not None:
            return "Busy", "an execution is running; a sandbox runs one at a time"
        if self._missing_file is not None:
            (code, message), self._missing_file = self._missing_file, None
            return code, f"not started without its files: {message}"
        unenforced = layers.unenforced(self._settings, execution)
        if unenforced:
            return "Unsupported", unenforced
        return self._missing_secret(execution)

    def _missing_secret(self, execution: Execution) -> "tuple[str, str] | None":
        try:
            if self._environment is not None:
                self._environment.secrets(execution.secret_env)
            elif execution.secret_env:
                raise KeyError(execution.secret_env[0])
        except KeyError as error:
            return "SecretMissing", f"this sandbox was started without the secret {error.args[0]!r}"
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
