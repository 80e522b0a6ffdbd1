"""A proxy between a client and a gateway that hangs up when it is told to."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

_BUFFER_BYTES = 65536


class CuttingProxy:
    """Passes bytes on, both ways, until it is to cut."""

    def __init__(self, target: str) -> None:
        self._target = urlsplit(target).port or 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._open: set[socket.socket] = set()
        #: So many answers are thrown away, and their connections closed: the requests have arrived.
        self.answers_to_swallow = 0
        #: So many bytes of answers pass on one connection; None: any number.
        self.bytes_until_cut: int | None = None
        self.cuts = 0
        self.connections = 0

    def start(self) -> None:
        """Accept, on a thread of its own."""
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Close everything."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.cut()

    def cut(self) -> None:
        """Close every connection there is."""
        for open_one in list(self._open):
            self._hang_up(open_one)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                self.connections += 1
                try:
                    far = socket.create_connection(("127.0.0.1", self._target))
                except OSError:
                    near.close()
                    continue
                self._open |= {near, far}
                threading.Thread(target=self._there, args=(near, far), daemon=True).start()
                threading.Thread(target=self._back, args=(far, near), daemon=True).start()

    def _there(self, near: socket.socket, far: socket.socket) -> None:
        with suppress(OSError):
            while data := near.recv(_BUFFER_BYTES):
                far.sendall(data)
        self._hang_up(near, far)

    def _back(self, far: socket.socket, near: socket.socket) -> None:
        passed = 0
        with suppress(OSError):
            while data := far.recv(_BUFFER_BYTES):
                if self.answers_to_swallow:
                    self.answers_to_swallow -= 1
                    self.cuts += 1
                    break
                if self.bytes_until_cut is not None and passed + len(data) >= self.bytes_until_cut:
                    near.sendall(data[: self.bytes_until_cut - passed])
                    self.cuts += 1
                    break
                near.sendall(data)
                passed += len(data)
        self._hang_up(near, far)

    def _hang_up(self, *ends: socket.socket) -> None:
        for end in ends:
            self._open.discard(end)
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@contextmanager
def proxied(target: str) -> Iterator[CuttingProxy]:
    """Put a proxy before a gateway."""
    proxy = CuttingProxy(target)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.close()
