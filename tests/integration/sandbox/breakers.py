"""Tools that break one limit each. Each prints a line before, which must be kept."""


def grow_step_by_step() -> None:
    print("before", flush=True)
    held = []
    while True:
        held.append(b"\1" * (1 << 20))


def take_all_at_once() -> None:
    print("before", flush=True)
    bytearray(1 << 34)


def grow_in_many_processes() -> None:
    import os
    import time

    print("before", flush=True)
    for _ in range(30):
        if os.fork() == 0:
            held = b"\1" * (12 << 20)
            time.sleep(60)
            os._exit(len(held) & 1)
    time.sleep(60)


def grow_shared_memory() -> None:
    import mmap

    print("before", flush=True)
    held = []
    while True:
        held.append(mmap.mmap(-1, 8 << 20))


def hide_shared_memory() -> None:
    """Keep pages alive that belong to no process: written, then let go of."""
    import mmap

    print("before", flush=True)
    held = []
    for _ in range(30):
        memory = mmap.mmap(-1, 8 << 20)
        memory[:: mmap.PAGESIZE] = b"\1" * len(memory[:: mmap.PAGESIZE])
        memory.madvise(mmap.MADV_DONTNEED)
        held.append(memory)


def hide_in_page_tables() -> None:
    """Touch one page in every 2 MiB: none of it is resident, but each needs a page table."""
    import mmap
    import time

    print("before", flush=True)
    memory = mmap.mmap(-1, 1 << 38, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000, prot=mmap.PROT_READ)
    memory.madvise(15)  # MADV_NOHUGEPAGE: one huge page of zeros would do for all
    for position in range(0, 1 << 38, 2 << 20):
        memory[position]
    time.sleep(60)


def hide_in_sockets() -> None:
    import os
    import socket
    import time

    print("before", flush=True)
    for _ in range(20):
        if os.fork() == 0:
            pairs = [socket.socketpair() for _ in range(100)]
            for pair in pairs:
                for end in pair:
                    end.setblocking(False)
                    try:
                        while True:
                            end.send(bytes(4096))
                    except BlockingIOError:
                        pass
            time.sleep(60)
    time.sleep(60)


def fork_without_end() -> None:
    import os
    import time

    print("before", flush=True)
    while True:
        if os.fork() == 0:
            time.sleep(60)


def fork_in_every_generation() -> None:
    import os

    print("before", flush=True)
    while True:
        try:
            os.fork()
        except OSError:
            pass


def start_threads() -> None:
    import threading
    import time

    print("before", flush=True)
    while True:
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()


def leave_zombies() -> None:
    import os

    print("before", flush=True)
    while True:
        if os.fork() == 0:
            os._exit(0)


def fill_disk(directory: str) -> None:
    print("before", flush=True)
    for number in range(1000):
        with open(f"{directory}/{number}", "wb") as file:
            file.write(bytes(1 << 20))


def fill_three_places() -> None:
    """Stay below the limit in each place, and above it in all together."""
    import time

    print("before", flush=True)
    for directory in ("/workspace", "/tmp", "/dev/shm"):
        for number in range(7):
            with open(f"{directory}/{number}", "wb") as file:
                file.write(bytes(1 << 20))
    time.sleep(60)


def make_many_files() -> None:
    import os
    import time

    print("before", flush=True)
    for number in range(20_000):
        os.close(os.open(f"/tmp/{number}", os.O_CREAT | os.O_WRONLY))
    time.sleep(60)


def write_large_file() -> None:
    print("before", flush=True)
    with open("large", "wb") as file:
        for _ in range(100):
            file.write(bytes(1 << 20))


def print_lines() -> None:
    print("before", flush=True)
    while True:
        print("x" * 1000)


def print_without_newline() -> None:
    import os

    os.write(1, b"before\n")
    while True:
        os.write(1, b"y" * 65536)


def print_to_standard_error() -> None:
    import sys

    print("before", flush=True)
    while True:
        sys.stderr.write("z" * 5000)


def return_too_much() -> str:
    print("before", flush=True)
    return "x" * 400_000


def sleep() -> None:
    import time

    print("before", flush=True)
    time.sleep(60)


def burn() -> None:
    print("before", flush=True)
    while True:
        pass


def burn_in_children() -> None:
    """Burn for a second in each of many, so that none reaches a limit of its own."""
    import os
    import time

    print("before", flush=True)
    while True:
        if os.fork() == 0:
            until = time.process_time() + 0.3
            while time.process_time() < until:
                pass
            os._exit(0)
        os.wait()


def burn_in_forgotten_children() -> None:
    """The kernel adds the time of a child to nobody's account whose parent ignores SIGCHLD."""
    import os
    import signal
    import time

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    print("before", flush=True)
    while True:
        if os.fork() == 0:
            until = time.process_time() + 0.3
            while time.process_time() < until:
                pass
            os._exit(0)
        try:
            os.wait()
        except ChildProcessError:
            pass


def burn_and_count_pauses(seconds: float, enough: int = 0) -> int:
    """Return how often this process was stopped and continued; wait for that a minute if it was not enough."""
    import signal
    import time

    pauses = 0

    def note(_number: int, _frame: object) -> None:
        nonlocal pauses
        pauses += 1

    signal.signal(signal.SIGCONT, note)
    began = time.monotonic()
    while time.monotonic() < began + (seconds if pauses >= enough else 60):
        pass
    return pauses


def burn_and_undo_pauses() -> None:
    """Let a timer of the kernel send SIGCONT all the time."""
    import ctypes
    import signal
    import struct

    print("before", flush=True)
    libc = ctypes.CDLL(None, use_errno=True)
    signal.signal(signal.SIGCONT, lambda *_: None)
    event = ctypes.create_string_buffer(struct.pack("Pii", 0, signal.SIGCONT, 0).ljust(64, b"\0"), 64)
    timer = ctypes.c_void_p()
    assert libc.timer_create(1, event, ctypes.byref(timer)) == 0, ctypes.get_errno()
    every_millisecond = struct.pack("qqqq", 0, 1_000_000, 0, 1_000_000)
    assert libc.timer_settime(timer, 0, every_millisecond, None) == 0
    while True:
        pass


def ignore_everything() -> None:
    import signal
    import time

    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)
    print("before", flush=True)
    while True:
        time.sleep(60)


def grow_when_asked_to_end() -> None:
    """Use the grace after SIGTERM for what was forbidden before."""
    import signal
    import time

    def grow(_number: int, _frame: object) -> None:
        held = []
        while True:
            held.append(b"\1" * (1 << 20))

    signal.signal(signal.SIGTERM, grow)
    print("before", flush=True)
    time.sleep(60)


def start_many_and_return() -> int:
    import threading
    import time

    all_are_there = threading.Event()
    threads = [threading.Thread(target=all_are_there.wait, daemon=True) for _ in range(40)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    all_are_there.set()
    for thread in threads:
        thread.join()
    return len(threads)


def take_much_and_return() -> int:
    import time

    held = b"\1" * (300 << 20)
    time.sleep(0.2)
    return len(held)


def burn_and_return() -> None:
    import time

    until = time.process_time() + 0.5
    while time.process_time() < until:
        pass


def use_something() -> None:
    import os
    import subprocess
    import time

    sleepers = [subprocess.Popen(["/bin/sleep", "60"]) for _ in range(2)]
    held = b"\1" * (50 << 20)
    until = time.process_time() + 0.2
    while time.process_time() < until:
        pass
    with open("written", "wb") as file:
        file.write(bytes(3 << 20))
    print("0123456789", flush=True)
    time.sleep(0.3)
    for sleeper in sleepers:
        sleeper.kill()
        sleeper.wait()
    os.unlink("written")
    assert len(held)


def flood_with_progress(reports: int) -> None:
    import os

    for number in range(1, reports + 1):
        os.write(3, b'{"type":"progress","fraction":0.5,"message":"%d"}\n' % number)


def dribble(characters: int) -> None:
    import os
    import time

    for number in range(characters):
        os.write(1, b"x")
        if number % 10 == 0:
            time.sleep(0)
