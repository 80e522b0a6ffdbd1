"""The network of a pod and what comes from elsewhere: ``python pod_network.py CONTROL COMMAND [ARGUMENT …]``.

Gives the loopback interface of this network namespace addresses as a pod and its neighbour have them, sends sockets
that are the neighbour's through the Unix socket CONTROL, and becomes the command.
"""

import ctypes
import errno
import fcntl
import os
import socket
import struct
import sys

POD, NEIGHBOUR = "10.7.0.1", "10.7.0.2"
POD6, NEIGHBOUR6 = "fd07::1", "fd07::2"
#: Where what a policy must refuse listens.
FORBIDDEN_PORT = 9443
PEERS, PEERS6 = 24, 4
_SIOCSIFADDR = 0x8916
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4


def add_addresses() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        # Its class is A: the whole of 10.0.0.0/8 becomes local.
        address = struct.pack("HH4s8x", socket.AF_INET, 0, socket.inet_aton(POD))
        fcntl.ioctl(control, _SIOCSIFADDR, struct.pack("16s16s8x", b"lo:1", address))
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as control:
        for host in (POD6, NEIGHBOUR6):
            fcntl.ioctl(
                control, _SIOCSIFADDR, struct.pack("16sIi", socket.inet_pton(socket.AF_INET6, host), 128, 1)
            )


def bound(family: int, host: str) -> socket.socket:
    """Make a socket of an address; the kernel takes a moment until it lets a new one of IPv6 be used."""
    found = socket.socket(family)
    while True:
        try:
            found.bind((host, 0))
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL:
                raise
            os.sched_yield()
        else:
            return found


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    add_addresses()
    forbidden = socket.create_server((NEIGHBOUR, FORBIDDEN_PORT), backlog=0)
    sockets = [forbidden]
    bound(socket.AF_INET6, POD6).close()
    sockets += [bound(socket.AF_INET, NEIGHBOUR) for _ in range(PEERS)]
    sockets += [bound(socket.AF_INET6, NEIGHBOUR6) for _ in range(PEERS6)]
    socket.send_fds(control, [b"."], [each.fileno() for each in sockets])
    for place in ("workspace", "tmp", "shm"):
        os.mkdir(f"/mnt/{place}")
    # Who is not root keeps capabilities over an exec, and bubblewrap refuses to start with them.
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "cannot give up the capabilities")
    os.execv(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
