"""Standard input and output as one connection: how a container's owner reaches the runner through the engine's attach.

A container without a network has no other way in that also works when the engine is on another machine.
"""

import os
import select

#: Both are pipes; nothing is ever waiting on the two ends but what poll tells.
_INPUT, _OUTPUT = 0, 1


class StandardStreams:
    """As much of a socket as ``connection`` uses. One descriptor, an epoll, stands for the two pipes in a poll."""

    __slots__ = ("_epoll", "_input", "_output")

    def __init__(self) -> None:
        """Take the two over; what takes their numbers next is another's business."""
        self._input, self._output = (
            os.dup(_INPUT),
            os.dup(_OUTPUT),
        )  # not inheritable, as all that Python makes
        self._epoll = select.epoll(2)
        self._epoll.register(self._input, select.EPOLLIN)
        self._epoll.register(self._output, 0)

    def setblocking(self, blocking: bool) -> None:  # noqa: FBT001 - a socket's
        os.set_blocking(self._input, blocking)
        os.set_blocking(self._output, blocking)

    def fileno(self) -> int:
        return self._epoll.fileno()

    def recv(self, size: int) -> bytes:
        return os.read(self._input, size)

    def send(self, data: bytes) -> int:
        return os.write(self._output, data)

    def wait_for(self, events: int) -> int:
        """Wait for these events of poll from now on.

        Returns:
            The events of ``fileno()`` that tell of them.
        """
        # The bits of poll and epoll are the same (EPOLLIN, EPOLLOUT).
        self._epoll.modify(self._input, events & select.POLLIN)
        self._epoll.modify(self._output, events & select.POLLOUT)
        return select.POLLIN

    def close(self) -> None:
        self._epoll.close()
        os.close(self._input)
        os.close(self._output)
