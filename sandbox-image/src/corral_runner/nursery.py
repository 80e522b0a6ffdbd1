"""The nursery: one warm interpreter that forks a cell for every task and never runs a tool itself."""

import _socket
import gc
import os
import select
import sys

from corral_runner import cell, landlock, seccomp
from corral_runner.jsonlines import decode, encode
from corral_runner.server import Server

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral_runner.settings import Settings

_MESSAGE_BYTES = 4096


def share_memory_with_forks() -> None:
    """Keep the collector off what is alive now: marking an object in a fork copies its page."""
    gc.freeze()


class Nursery:
    """Answers ``cell`` messages on a SOCK_SEQPACKET socket until its other end is closed.

    A message carries one descriptor, the cell's end of a connection. The answer carries a pidfd of the cell, or
    the error that kept it from being made.
    """

    def __init__(self, settings: "Settings", control: "_socket.socket") -> None:
        self._settings = settings
        self._control = control
        self._poll = select.poll()
        self._cells: dict[int, int] = {}

    def run(self) -> None:
        self._poll.register(self._control.fileno(), select.POLLIN)
        ahead = self._settings.preload[::-1]
        while True:
            # Modules are imported only while nobody waits for a cell: the first comes without them, and early.
            events = self._poll.poll(0 if ahead else None)
            if not events:
                __import__(ahead.pop())
                if not ahead:
                    landlock.system_paths()
                    for execute in (False, True):
                        seccomp.program("none", execute=execute, notify=seccomp.notifications_available())
                share_memory_with_forks()
            for descriptor, _events in events:
                if descriptor != self._control.fileno():
                    self._reap(descriptor)
                elif not self._serve():
                    return

    def _serve(self) -> bool:
        try:
            data, rights, _flags, _address = self._control.recvmsg(_MESSAGE_BYTES, _socket.CMSG_SPACE(4))
        except ConnectionResetError:  # closed with an answer unread
            return False
        if not data:
            return False
        request = decode(data)
        descriptor = int.from_bytes(rights[0][2][:4], sys.byteorder)
        uid, gid = os.getuid(), os.getgid()
        try:
            pid, pidfd = cell.fork_cell(self._settings)
        except cell.CellError as error:
            os.close(descriptor)
            self._control.send(encode({"cell": request["cell"], "error": str(error)}))
            return True
        if pid == 0:
            self._be_cell(_socket.socket(fileno=descriptor), uid, gid)
        os.close(descriptor)
        self._cells[pidfd] = pid
        self._poll.register(pidfd, select.POLLIN)
        passed = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, pidfd.to_bytes(4, sys.byteorder))]
        self._control.sendmsg([encode({"cell": request["cell"]})], passed)
        return True

    def _be_cell(self, connection: "_socket.socket", uid: int, gid: int) -> None:
        status = 70  # EX_SOFTWARE
        try:
            self._control.close()
            for pidfd in self._cells:
                os.close(pidfd)
            if self._settings.holds("namespaces"):
                try:
                    cell.furnish(self._settings, uid, gid)
                except OSError as error:
                    message = f"a cell could not be furnished: {error}"
                    connection.sendall(encode({"type": "error", "code": "SandboxFailed", "message": message}))
                    return
            server = Server(self._settings)
            server.adopt(connection)
            server.serve()
            status = 0
        except BaseException:
            # To the owner's log: without this a runner's own failure would be a connection that just ends.
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(status)

    def _reap(self, pidfd: int) -> None:
        self._poll.unregister(pidfd)
        os.waitpid(self._cells.pop(pidfd), 0)
        os.close(pidfd)
