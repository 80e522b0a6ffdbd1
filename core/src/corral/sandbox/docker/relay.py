"""A connection that only threads can use, such as one over TLS or SSH, as a socket for an event loop."""

import socket
import ssl
import threading
from contextlib import suppress
from io import RawIOBase
from typing import Any

_PIECE_BYTES = 65536


def as_socket(attached: Any) -> socket.socket:
    """Return what ``APIClient.attach_socket`` gives as a plain socket that is the caller's alone."""
    inner = getattr(attached, "_sock", attached) if isinstance(attached, RawIOBase) else attached
    if isinstance(inner, socket.socket) and not isinstance(inner, ssl.SSLSocket):
        # Out of the hands of the HTTP response, which would close it at a time of its own.
        return socket.socket(fileno=inner.detach())
    return _relayed(inner)


def _relayed(far: Any) -> socket.socket:
    ours, theirs = socket.socketpair()
    for name, receive, send, end in (
        ("out", theirs.recv, far.sendall, far.close),
        ("in", far.recv, theirs.sendall, theirs.close),
    ):
        # Daemons: what they wait for may never come, and they have nothing to finish.
        threading.Thread(
            target=_pump, args=(receive, send, end), name=f"corral-docker-{name}", daemon=True
        ).start()
    return ours


def _pump(receive: Any, send: Any, end: Any) -> None:
    with suppress(OSError, ValueError, EOFError):
        while data := receive(_PIECE_BYTES):
            send(data)
    with suppress(OSError, EOFError):
        end()
