"""The process that will be the tool: forked before anybody says what to run, and waiting for it.

A fork costs a millisecond, and half of what the child takes on does not depend on the task. In a sandbox that
waits, both are done before the task comes.
"""

import _socket
import os

from corral_runner import tool
from corral_runner.jsonlines import encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral_runner.settings import Settings


class ToolProcess:
    """The runner's ends of everything that leads to the tool."""

    __slots__ = ("channel", "pid", "pidfd", "stderr", "stdout")

    def __init__(self, settings: "Settings", workspace: str) -> None:
        """Fork it.

        Args:
            settings: of this sandbox.
            workspace: absolute path.
        """
        self.stdout, out_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.stderr, err_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        # The tool's ends must block, or a program that prints faster than the runner reads gets EAGAIN.
        os.set_blocking(out_write, True)
        os.set_blocking(err_write, True)
        self.channel, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
        self.pid = os.fork()
        if self.pid == 0:
            tool.become(settings, workspace, theirs, (out_write, err_write))
        os.close(out_write)
        os.close(err_write)
        theirs.close()
        self.pidfd = os.pidfd_open(self.pid)

    def begin(self, request: "dict[str, Any]") -> None:
        """Tell it what to run: the ``execution`` object of a ``start`` request."""
        self.channel.sendall(encode(request))
