"""Run a program where the kernel gives less than usual: ``python cramped.py WHAT PROGRAM [ARGUMENT …]``.

WHAT is ``userns=N`` (no more than N user namespaces may be made below this one), ``no-clone3`` (as Docker's default
filter has it), ``no-landlock`` or ``no-seccomp``. Nothing outside this process is changed.
"""

import errno
import os
import struct
import sys

from corral_runner import kernel

_ARCH = 0xC000003E if kernel.MACHINE == "x86_64" else 0xC00000B7
_EVERY_ID = "0 0 4294967295"


def limit_user_namespaces(most: int) -> None:
    """Move into a user namespace that maps what this process may map, and set its ceiling there."""
    uid, gid, root = os.geteuid(), os.getegid(), os.geteuid() == 0
    ready, go = os.pipe()
    done, told = os.pipe()
    helper = os.fork()
    if helper == 0:
        os.read(ready, 1)
        for name in ("uid_map", "gid_map") if root else ():
            with open(f"/proc/{os.getppid()}/{name}", "w", encoding="ascii") as file:
                file.write(_EVERY_ID)
        os.write(told, b"x")
        os._exit(0)
    kernel.call("unshare", kernel.CLONE_NEWUSER)
    os.write(go, b"x")
    os.read(done, 1)
    os.waitpid(helper, 0)
    if not root:
        for name, content in (
            ("setgroups", "deny"),
            ("uid_map", f"{uid} {uid} 1"),
            ("gid_map", f"{gid} {gid} 1"),
        ):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(content)
    with open("/proc/sys/user/max_user_namespaces", "w", encoding="ascii") as file:
        file.write(str(most))


def refuse(calls: tuple[tuple[int, ...], ...], code: int) -> None:
    """Let system calls fail for this process and all it starts."""
    column = 0 if kernel.MACHINE == "x86_64" else 1
    numbers = [call[column] for call in calls]
    program = [
        (0x20, 0, 0, 4),
        (0x15, 0, len(numbers) + 1, _ARCH),
        (0x20, 0, 0, 0),
        *((0x15, len(numbers) - index, 0, number) for index, number in enumerate(numbers)),
        (0x06, 0, 0, 0x7FFF0000),
        (0x06, 0, 0, 0x00050000 | code),
    ]
    memory = kernel.buffer(8 * len(program))
    memory.raw = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    kernel.call("seccomp", 1, 0, struct.pack("HxxxxxxQ", len(program), kernel.address(memory)))


def main() -> None:
    what, *command = sys.argv[1:]
    name, _, value = what.partition("=")
    if name == "userns":
        limit_user_namespaces(int(value))
    elif name == "no-clone3":
        refuse(((435, 435),), errno.ENOSYS)
    elif name == "no-landlock":
        refuse(((444, 444), (445, 445), (446, 446)), errno.ENOSYS)
    elif name == "no-seccomp":
        refuse(((317, 277),), errno.ENOSYS)
    else:
        raise SystemExit(f"no such restriction: {what}")
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
