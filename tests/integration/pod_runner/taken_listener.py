"""Run a program under a filter that has the one listener for notifications: ``python taken_listener.py PROGRAM …``.

As a container runtime does whose profile notifies (the OCI runtime specification's ``listenerPath``).
"""

import os
import struct
import sys

from corral_runner import kernel, seccomp

_ALLOW = struct.pack("HBBI", 0x06, 0, 0, 0x7FFF0000)


def main() -> None:
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    listener = seccomp.install(_ALLOW, notify=True)
    assert listener is not None
    os.set_inheritable(listener, True)
    os.execv(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
