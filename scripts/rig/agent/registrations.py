"""The addresses of this node's pods, as the CNI plugin tells them over a socket before the API does."""

from __future__ import annotations

import json
import socketserver
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from rig.agent.cni_plugin import SOCKET

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable


class Registrations:
    """Attributes: addresses by the pod's UID, of the pods that started here since the agent did."""

    def __init__(self, cover: Callable[[str], bool]) -> None:
        """Args: cover: brings the rules up to date for the pod with this UID; False if there is no such pod."""
        self.addresses: dict[str, str] = {}
        self._cover = cover
        path = Path(SOCKET)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        server = _Server(str(path), self._answer)
        threading.Thread(target=server.serve_forever, name="registrations", daemon=True).start()

    def forget_all_but(self, uids: set[str]) -> None:
        for uid in set(self.addresses) - uids:
            self.addresses.pop(uid, None)

    def _answer(self, message: bytes) -> bytes:
        told = json.loads(message)
        uid, addresses = told["add"], told["addresses"]
        self.addresses[uid] = next(address for address in addresses if ":" not in address)
        if not self._cover(uid):
            self.addresses.pop(uid, None)
            return f"the agent knows no pod with the UID {uid}\n".encode()
        return b"ok\n"


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True

    def __init__(self, path: str, answer: Callable[[bytes], bytes]) -> None:
        self.answer = answer
        super().__init__(path, _Connection)

    def handle_error(
        self, request: socket.socket | tuple[bytes, socket.socket], client_address: object
    ) -> None:
        del request, client_address
        print(f"registration: {sys.exception()!r}", file=sys.stderr, flush=True)


class _Connection(socketserver.StreamRequestHandler):
    server: _Server
    timeout = 15

    def handle(self) -> None:
        self.wfile.write(self.server.answer(self.rfile.readline()))
