"""Start the runner.

``corral_runner nursery SETTINGS``: the inherited descriptor is the control socket; see ``nursery``.
``corral_runner serve SETTINGS``: the inherited descriptor is a connection, or a listening socket if the environment has
``CORRAL_START_TOKEN`` and ``CORRAL_READ_TOKEN``.

SETTINGS is a JSON object; see ``settings``.
"""

import _socket
import gc
import os
import sys

from corral_runner.jsonlines import decode
from corral_runner.server import Server, silence_standard_streams
from corral_runner.settings import Settings


def main() -> None:
    mode, text = sys.argv[1:3]
    settings = Settings(decode(text.encode()))
    socket = _socket.socket(fileno=settings.descriptor)
    # A tool must never find the tokens in the environment it is forked with.
    tokens = os.environ.pop("CORRAL_START_TOKEN", None), os.environ.pop("CORRAL_READ_TOKEN", None)
    silence_standard_streams()
    for name in settings.preload:
        __import__(name)
    # What is alive now is shared by every fork; a collection in a child would copy the pages it marks.
    gc.collect()
    gc.freeze()
    if mode == "nursery":
        from corral_runner.nursery import Nursery

        Nursery(settings, socket).run()
        return
    server = Server(settings, os.getcwd())
    if tokens[0] is not None and tokens[1] is not None:
        server.listen(socket, tokens[0], tokens[1])
    else:
        server.adopt(socket)
    server.serve()


if __name__ == "__main__":
    main()
