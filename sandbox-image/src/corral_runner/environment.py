"""What a container's environment tells the runner, and what nobody else may find there afterwards.

A tool is a fork of this process: /proc/PID/environ of a fork, and its memory, hold what this process was started
with. So the values are overwritten where they lie, before the first fork, and secrets are kept outside of memory that
forks share.
"""

import os
import posix

from corral_runner import kernel
from corral_runner.jsonlines import decode, encode

_SECRET = b"CORRAL_SECRET_"


class Environment:
    """Taken once, at start; the environment is empty then."""

    __slots__ = ("_secrets", "host", "read_sha256", "start_sha256")

    def __init__(self) -> None:
        given = posix.environ
        #: Address to listen on, None without ``CORRAL_LISTEN_HOST``.
        self.host = _text(b"CORRAL_LISTEN_HOST")
        #: SHA-256 of the tokens, in hexadecimal.
        self.start_sha256 = _text(b"CORRAL_START_TOKEN_SHA256")
        self.read_sha256 = _text(b"CORRAL_READ_TOKEN_SHA256")
        secrets = {name: value for name, value in given.items() if name.startswith(_SECRET)}
        #: Descriptor of a file in memory, closed in every tool before anything of a task runs; -1 without secrets.
        self._secrets = -1
        if secrets:
            self._secrets = os.memfd_create("secrets", os.MFD_CLOEXEC)
            values = {
                os.fsdecode(name.removeprefix(_SECRET)): os.fsdecode(value) for name, value in secrets.items()
            }
            os.write(self._secrets, encode(values))
        _forget()

    def secrets(self, names: "list[str]") -> "dict[str, str]":
        """Return the secrets of these names.

        Raises:
            KeyError: the sandbox was started without one of them; its text is the name.
        """
        if not names:
            return {}
        values: dict[str, str] = {}
        if self._secrets != -1:
            values = decode(os.pread(self._secrets, os.fstat(self._secrets).st_size, 0))
        return {name: values[name] for name in names}


def _text(name: bytes) -> "str | None":
    value = posix.environ.get(name)
    return None if value is None else os.fsdecode(value)


def _forget() -> None:
    """Overwrite the values where the kernel put them, and Python's copies, and empty the environment."""
    for value in posix.environ.values():
        if len(value) > 1:  # bytes of one character are shared by the whole interpreter
            kernel.overwrite(id(value) + bytes.__basicsize__ - 1, len(value))
    os.environ.clear()
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    # proc_pid_stat(5): env_start and env_end are the fields 50 and 51; the third is the first behind the name.
    start, end = int(fields[47]), int(fields[48])
    if start:  # gVisor does not tell
        kernel.overwrite(start, end - start)
