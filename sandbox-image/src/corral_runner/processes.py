"""Every process of an execution, as a whole: signalled, stopped, killed and reaped."""

import os
import time

from corral_runner import kernel

SIGKILL, SIGTERM, SIGCONT, SIGSTOP = 9, 15, 18, 19  # signal(7); `import signal` costs a cold start 4 ms

#: How long killed processes may take to die. Only a process stuck in the kernel takes longer than milliseconds.
_REAP_SECONDS = 5.0


class Processes:
    """All processes below this runner."""

    __slots__ = ("alone",)

    def __init__(self) -> None:
        #: As pid 1 of its namespace the runner reaches every process with one atomic kill(-1).
        self.alone = os.getpid() == 1
        if not self.alone:
            kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)

    def signal(self, number: int) -> None:
        """Send a signal to every process of the execution."""
        if self.alone:
            try:
                os.kill(-1, number)
            except ProcessLookupError:
                pass
            return
        for pid in self._descendants():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass

    def kill_and_reap(self, main: int) -> "tuple[int | None, bool]":
        """End every process.

        Args:
            main: the tool's own process.

        Returns:
            Its wait status, None if it was not seen; and whether everything is gone.
        """
        status: int | None = None
        deadline = time.monotonic() + _REAP_SECONDS
        while True:
            # Anew in each round: an orphan may have come to us between two looks.
            self.signal(SIGKILL)
            try:
                pid, found = os.waitpid(-1, 0 if self.alone else os.WNOHANG)
            except ChildProcessError:
                return status, True
            if pid == main:
                status = found
            elif pid == 0:
                if time.monotonic() > deadline:
                    return status, False
                time.sleep(0.001)

    def reap_orphans(self, main: int) -> None:
        """Collect the ended processes that came to this runner, but not the tool's own."""
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if found is None or found.si_pid == main:
                return
            os.waitpid(found.si_pid, 0)

    def _descendants(self) -> "list[int]":
        children: dict[int, list[int]] = {}
        for name in os.listdir("/proc"):
            if not name.isdigit():
                continue
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    text = file.read()
            except OSError:
                continue
            parent = int(text[text.rfind(b")") + 2 :].split()[1])
            children.setdefault(parent, []).append(int(name))
        found: list[int] = []
        waiting = [os.getpid()]
        while waiting:
            below = children.get(waiting.pop(), [])
            found += below
            waiting += below
        return found
