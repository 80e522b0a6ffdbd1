"""Start the runner.

``corral_runner nursery SETTINGS``: the inherited descriptor is the control socket; see ``nursery``.
``corral_runner serve SETTINGS``: the inherited descriptor is a connection, or a listening socket if the environment has
``CORRAL_START_TOKEN_SHA256`` and ``CORRAL_READ_TOKEN_SHA256``; with ``listen`` in the settings, as in a container, it
makes the listening socket itself; with ``standardStreams``, standard input and output are the connection.

SETTINGS is a JSON object; see ``settings``. The environment: see ``environment``.
"""

import _socket
import os
import sys

from corral_runner import tool
from corral_runner.environment import Environment
from corral_runner.jsonlines import decode
from corral_runner.nursery import Nursery, share_memory_with_forks
from corral_runner.server import Server
from corral_runner.settings import Settings


def main() -> None:
    mode, text = sys.argv[1:3]
    settings = Settings(decode(text.encode()))
    environment = Environment()
    streams = None
    if settings.standard_streams:
        from corral_runner.standard_streams import StandardStreams

        streams = StandardStreams()
    _detach_standard_streams()
    tool.prepare()
    if mode == "nursery":
        Nursery(settings, _socket.socket(fileno=settings.descriptor)).run()
        return
    for name in settings.preload:
        __import__(name)
    if settings.listen is not None or streams is not None:
        from corral_runner import container

        container.prepare(settings)
    share_memory_with_forks()
    server = Server(settings, os.getcwd(), environment)
    if settings.listen is not None or environment.start_sha256 is not None:
        from corral_runner.listener import open_listener

        server.listen(open_listener(settings, environment))
    else:
        server.adopt(streams or _socket.socket(fileno=settings.descriptor))
    server.serve()
    # Nothing is left to do that the end of the process does not; an interpreter that tidies up takes milliseconds.
    os._exit(0)


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
