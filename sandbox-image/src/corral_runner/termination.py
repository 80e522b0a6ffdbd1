"""SIGTERM of a listening runner: whoever runs its container takes the sandbox away."""

import _signal  # type: ignore[import-not-found]
import os

from corral_runner import kernel

# signalfd(2), linux/signalfd.h
_NONBLOCK_CLOEXEC = os.O_NONBLOCK | os.O_CLOEXEC
_SIGNAL_BYTES, _SENDER = 128, slice(12, 16)


class Termination:
    """Readable when the signal has come.

    The kernel drops a signal that the first process of a pid namespace has no handler for, and a handler would not
    tell who sent it: a tool may try, and must not be able to end its own execution as a pod's deletion does. The
    signal stays blocked here; every tool unblocks it.
    """

    __slots__ = ("descriptor",)

    def __init__(self) -> None:
        _signal.pthread_sigmask(_signal.SIG_BLOCK, (_signal.SIGTERM,))
        mask = (1 << (_signal.SIGTERM - 1)).to_bytes(8, "little")
        self.descriptor = kernel.call("signalfd4", -1, mask, 8, _NONBLOCK_CLOEXEC)

    def take(self) -> bool:
        """Take one signal; whether it came from outside the sandbox."""
        try:
            found = os.read(self.descriptor, _SIGNAL_BYTES)
        except BlockingIOError:
            return False
        # 0 is a process outside this pid namespace.
        return os.getpid() != 1 or int.from_bytes(found[_SENDER], "little") == 0
