"""Start the runner.

``corral_runner nursery SETTINGS``: the inherited descriptor is the control socket; see ``nursery``.
``corral_runner serve SETTINGS``: the inherited descriptor is a connection, or a listening socket if the environment has
``CORRAL_START_TOKEN_SHA256`` and ``CORRAL_READ_TOKEN_SHA256``, in hexadecimal: the tool is a fork of this process
and finds in its memory what this process was started with, so that may not be the tokens themselves.

SETTINGS is a JSON object; see ``settings``.
"""

import _socket
import os
import sys

from corral_runner import tool
from corral_runner.connection import Tokens
from corral_runner.jsonlines import decode
from corral_runner.nursery import Nursery, share_memory_with_forks
from corral_runner.server import Server
from corral_runner.settings import Settings


def main() -> None:
    mode, text = sys.argv[1:3]
    settings = Settings(decode(text.encode()))
    socket = _socket.socket(fileno=settings.descriptor)
    start, read = (os.environ.get(f"CORRAL_{kind}_TOKEN_SHA256") for kind in ("START", "READ"))
    _detach_standard_streams()
    tool.prepare()
    if mode == "nursery":
        Nursery(settings, socket).run()
        return
    for name in settings.preload:
        __import__(name)
    share_memory_with_forks()
    server = Server(settings, os.getcwd())
    if start is not None and read is not None:
        server.listen(socket, Tokens(start, read))
    else:
        server.adopt(socket)
    server.serve()


def _detach_standard_streams() -> None:
    """Make descriptors 0 and 1 pipes that lead nowhere; a tool gets its own later.

    What the runner itself dies of still reaches its owner on descriptor 2.
    """
    read, write = os.pipe()
    os.dup2(read, 0)
    os.dup2(write, 1)
    os.close(read)
    os.close(write)


if __name__ == "__main__":
    main()
