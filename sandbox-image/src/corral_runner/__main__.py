"""Start the runner.

``corral_runner nursery SETTINGS``: the inherited descriptor is the control socket; see ``nursery``.
``corral_runner serve SETTINGS``: the inherited descriptor is a connection, or a listening socket if the environment has
``CORRAL_START_TOKEN`` and ``CORRAL_READ_TOKEN``.

SETTINGS is a JSON object; see ``settings``.
"""

import _socket
import os
import sys

from corral_runner import tool
from corral_runner.jsonlines import decode
from corral_runner.nursery import Nursery, share_memory_with_forks
from corral_runner.server import Server, detach_standard_streams
from corral_runner.settings import Settings


def main() -> None:
    mode, text = sys.argv[1:3]
    settings = Settings(decode(text.encode()))
    socket = _socket.socket(fileno=settings.descriptor)
    # A tool must never find the tokens in the environment it is forked with.
    tokens = os.environ.pop("CORRAL_START_TOKEN", None), os.environ.pop("CORRAL_READ_TOKEN", None)
    detach_standard_streams()
    tool.prepare()
    if mode == "nursery":
        Nursery(settings, socket).run()
        return
    for name in settings.preload:
        __import__(name)
    share_memory_with_forks()
    server = Server(settings, os.getcwd())
    if tokens[0] is not None and tokens[1] is not None:
        server.listen(socket, tokens[0], tokens[1])
    else:
        server.adopt(socket)
    server.serve()


if __name__ == "__main__":
    main()
