"""Tools that take as much as they can get of what all sandboxes of a user share, and hold it until they are ended.

Each prints ``full`` when it has all it can get.
"""


def hold() -> None:
    """Say that it is full, and stay so."""
    import time

    print("full", flush=True)
    time.sleep(600)


def open_files() -> None:
    held = []
    try:
        while True:
            held.append(open("/dev/null", "rb"))  # noqa: SIM115
    except OSError:
        held.pop().close()
        hold()


def open_files_in_many_processes() -> None:
    import os

    for _ in range(30):
        if os.fork() == 0:
            open_files()
    hold()


def make_watchers() -> None:
    """Take inotify instances and watches, as many as the kernel gives."""
    import ctypes
    import os

    libc = ctypes.CDLL(None, use_errno=True)
    watchers = []
    while (watcher := libc.inotify_init()) >= 0:
        watchers.append(watcher)
    assert watchers
    for number in range(10_000):
        os.mkdir(f"/tmp/{number}")
        if libc.inotify_add_watch(watchers[0], b"/tmp/%d" % number, 0xFFF) < 0:
            break
    else:
        raise AssertionError("there was no end of watches")
    hold()


def fill_pipes() -> None:
    import os

    for _ in range(20):
        if os.fork() == 0:
            held = []
            try:
                while True:
                    read, write = os.pipe()
                    held.append((read, write))
                    os.set_blocking(write, False)
                    try:
                        while True:
                            os.write(write, bytes(4096))
                    except BlockingIOError:
                        pass
            except OSError:
                pass
            hold()
    hold()


def open_terminals() -> None:
    import os
    import pty

    held = []
    try:
        while True:
            held.append(pty.openpty())
    except OSError:
        assert len(held) < 100, "there was no end of terminals"
        for descriptor in held.pop():
            os.close(descriptor)
        hold()


def send_descriptors_on_their_way() -> None:
    """Leave descriptors in sockets that nobody reads; the kernel counts them for the user, in all sandboxes."""
    import os
    import socket

    for _ in range(10):
        if os.fork() == 0:
            held = []
            try:
                while True:
                    pair = socket.socketpair()
                    held.append(pair)
                    socket.send_fds(pair[0], [b"x"], [0] * 250)
            except OSError:
                pass
            hold()
    hold()


def queue_signals() -> None:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    made = 0
    timer = ctypes.c_void_p()
    while libc.timer_create(1, None, ctypes.byref(timer)) == 0:
        made += 1
        assert made < 10_000, "there was no end of timers"
    hold()


def ask_for_asynchronous_io() -> None:
    """Take all there are on the whole machine (fs.aio-max-nr)."""
    import ctypes
    import errno

    libc = ctypes.CDLL(None, use_errno=True)
    number = {"x86_64": 206, "aarch64": 0}[__import__("os").uname().machine]
    context = ctypes.c_ulong(0)
    assert libc.syscall(number, 60_000, ctypes.byref(context)) == -1
    assert ctypes.get_errno() == errno.ENOSYS, ctypes.get_errno()
    hold()


def lock_many_ranges() -> None:
    import fcntl

    with open("locked", "w+b") as file:
        try:
            for number in range(20_000):
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 2 * number)
        except OSError:
            pass
        hold()


def make_sockets_in_the_abstract() -> None:
    import socket

    held = []
    try:
        for number in range(10_000):
            held.append(socket.socket(socket.AF_UNIX))
            held[-1].bind(f"\0corral-{number}")
    except OSError:
        hold()


def try_the_forbidden() -> None:
    """Ask for what is refused, all the time, in many processes."""
    import os
    import socket

    for _ in range(8):
        if os.fork() == 0:
            while True:
                try:
                    socket.socket(socket.AF_INET, socket.SOCK_STREAM)
                except OSError:
                    pass
    while True:
        try:
            os.setns(0)  # type: ignore[attr-defined]
        except (OSError, AttributeError, TypeError):
            pass


def map_without_end() -> None:
    """Ask the runner about mappings, all the time."""
    import mmap

    while True:
        mmap.mmap(-1, 20 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()


def talk_to_the_runner_without_end() -> None:
    import os

    for _ in range(8):
        if os.fork() == 0:
            while True:
                os.write(3, b'{"type":"progress","message":"x"}\n' * 100)
    while True:
        os.write(3, b"\n" * 60_000)


def print_single_characters_without_end() -> None:
    import os

    while True:
        os.write(1, b"x")
        os.write(2, b"y")


def stop_itself() -> None:
    import os
    import signal

    while True:
        os.kill(os.getpid(), signal.SIGSTOP)


def leave_zombies_and_orphans() -> None:
    import os

    while True:
        try:
            if os.fork() == 0:
                if os.fork() == 0:
                    os._exit(0)
                os._exit(0)
        except OSError:
            pass


def touch_and_release() -> None:
    """Drive the kernel's memory management: map, touch, unmap, in many processes."""
    import mmap
    import os

    for _ in range(6):
        if os.fork() == 0:
            break
    while True:
        memory = mmap.mmap(-1, 4 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        memory[:: mmap.PAGESIZE] = b"\1" * len(memory[:: mmap.PAGESIZE])
        memory.close()
