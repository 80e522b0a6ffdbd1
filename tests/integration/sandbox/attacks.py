"""What a hostile tool does, written as it would write it. Every function runs inside a sandbox and stands alone."""

from typing import Any


def system_call(number: int, arguments: list[Any]) -> Any:
    """Make one system call; return its value, or the name of its error."""
    import ctypes
    import errno
    import os

    own = os.getpid()
    libc = ctypes.CDLL(None, use_errno=True)
    values = [
        ctypes.c_char_p(value.encode()) if isinstance(value, str) else ctypes.c_long(value)
        for value in arguments
    ]
    value = libc.syscall(ctypes.c_long(number), *values)
    if os.getpid() != own:
        os._exit(0)  # the call made this process
    return errno.errorcode.get(ctypes.get_errno(), "?") if value < 0 else value


def attempt(call: str, arguments: list[Any]) -> Any:
    """Make one call of ``os``; return its value, or the name of its error."""
    import errno
    import os

    try:
        value = getattr(os, call)(*arguments)
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, "?")
    return value if isinstance(value, int | str) else repr(value)


def attempts(calls: list[list[Any]]) -> list[Any]:
    """Make calls of ``os`` one after the other; return the error's name of each, or OK."""
    import errno
    import os

    ended = []
    for call, *arguments in calls:
        try:
            getattr(os, call)(*arguments)
            ended.append("OK")
        except OSError as error:
            ended.append(errno.errorcode.get(error.errno or 0, "?"))
    return ended


def push_into_terminal() -> str:
    """Type a character into a terminal that this process controls, as if its user had."""
    import errno
    import fcntl
    import os
    import signal
    import termios

    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    ours, theirs = os.openpty()
    try:
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)
        fcntl.ioctl(theirs, termios.TIOCSTI, b"x")
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    finally:
        os.close(ours)
        os.close(theirs)
    return "typed"


def connect() -> None:
    import socket

    socket.socket().connect(("192.0.2.1", 80))


def execute() -> int:
    import subprocess

    return subprocess.run(["/bin/true"], check=True).returncode


def write_into_report(line: str, times: int) -> str:
    """Write to the channel that leads to the runner, whatever the runner expects there."""
    import os
    import socket

    channel = socket.socket(fileno=os.dup(3))
    for _ in range(times):
        channel.sendall(line.encode("utf-8", "surrogateescape"))
    return "honest"


def send_descriptors_to_report() -> str:
    import array
    import os
    import socket

    channel = socket.socket(fileno=os.dup(3))
    held = [os.open("/dev/null", os.O_RDONLY) for _ in range(60)]
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", held))]
    for _ in range(50):
        channel.sendmsg([b'{"type":"ready","listener":true}\n'], rights)
    return "honest"


def close_report() -> str:
    import os

    os.close(3)
    os._exit(0)


def plant(targets: dict[str, str]) -> None:
    """Leave symbolic links, a FIFO and a swapped directory where the owner will read and write."""
    import os

    for name, target in targets.items():
        os.symlink(target, name)
    os.mkfifo("fifo")
    with open("honest", "w") as file:
        file.write("honest")
    os.link("honest", "hard")


def listen_where_all_can_see() -> None:
    """Offer an abstract socket and memory of System V, and stay."""
    import ctypes
    import socket
    import time

    listener = socket.socket(socket.AF_UNIX)
    listener.bind("\0corral-escape")
    listener.listen()
    ctypes.CDLL(None).shmget(0x5EC, 4096, 0o1666)
    print("up", flush=True)
    time.sleep(600)


def reach_neighbour() -> list[str]:
    """Name what of ``listen_where_all_can_see`` can be reached."""
    import ctypes
    import socket

    reached = []
    try:
        socket.socket(socket.AF_UNIX).connect("\0corral-escape")
        reached.append("socket")
    except OSError:
        pass
    if ctypes.CDLL(None).shmget(0x5EC, 4096, 0) >= 0:
        reached.append("memory")
    return reached


def starve_the_runner() -> str:
    """Take its runner's descriptors away: the tool has the runner's user."""
    import resource

    try:
        resource.prlimit(1, resource.RLIMIT_NOFILE, (3, 3))
    except OSError as error:
        return type(error).__name__
    return "done"
