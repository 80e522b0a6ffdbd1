"""A listening runner's socket: who may come in, and what a bearer of a token may do."""

import _socket
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral_runner.environment import Environment
    from corral_runner.settings import Settings

PORT = 7070
_BACKLOG = 64
#: Of SHA-256; a hash in hexadecimal fills one.
_BLOCK_BYTES = 64
#: A peer that vanished without a word, as with its node, is dropped after half a minute.
_KEEPALIVE = (
    (_socket.TCP_KEEPIDLE, 15),
    (_socket.TCP_KEEPINTVL, 5),
    (_socket.TCP_KEEPCNT, 3),
    (_socket.TCP_USER_TIMEOUT, 30_000),
)


class Listener:
    """The socket and the tokens of one runner."""

    __slots__ = ("_rights", "_start_sha256", "socket")

    def __init__(self, socket: "_socket.socket", start_sha256: str, read_sha256: str) -> None:
        """Begin.

        Args:
            socket: listens already.
            start_sha256: hash of the token whose bearer may do everything. A tool is a fork of this process and can
                read whatever its memory holds, so that may not be the tokens themselves.
            read_sha256: of the one whose bearer may only read.
        """
        socket.setblocking(False)
        self.socket = socket
        self._start_sha256 = start_sha256
        self._rights = {start_sha256: (True, True), read_sha256: (False, True)}

    def accept(self) -> "_socket.socket | None":
        """Take one peer in; None where there is none, or it is a tool that speaks to its own runner."""
        try:
            descriptor, _address = self.socket._accept()  # type: ignore[attr-defined]  # noqa: SLF001 - C API
            socket = _socket.socket(fileno=descriptor)
            if comes_from_inside(socket):
                socket.close()
                return None
            if socket.family != _socket.AF_UNIX:
                # A frame goes out when it is written: Nagle's algorithm would keep it for the answer to the last one.
                socket.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
                socket.setsockopt(_socket.SOL_SOCKET, _socket.SO_KEEPALIVE, 1)
                for option, value in _KEEPALIVE:
                    socket.setsockopt(_socket.IPPROTO_TCP, option, value)
        except OSError:  # taken back by the peer, or no descriptor is free
            return None
        return socket

    def rights(self, token: str) -> "tuple[bool, bool] | None":
        """Whether the bearer may start, and may read; None for an unknown token."""
        from _operator import _compare_digest

        digest = _sha256(token.encode())
        for known, rights in self._rights.items():
            if _compare_digest(known, digest):
                return rights
        return None

    def proof(self, nonce: str) -> str:
        """Show that this is the runner that was told the start token's hash: HMAC-SHA256 (RFC 2104) with it as key."""
        # `hmac` brings OpenSSL along, as `hashlib` does.
        key = self._start_sha256.encode().ljust(_BLOCK_BYTES, b"\0")
        inner = _sha256(bytes(byte ^ 0x36 for byte in key) + b"runner/" + nonce.encode())
        return _sha256(bytes(byte ^ 0x5C for byte in key) + bytes.fromhex(inner))


def open_listener(settings: "Settings", environment: "Environment") -> Listener:
    """Listen where the settings and the environment say, or on the inherited descriptor.

    Raises:
        ValueError: they do not say where, or for whom; the text names what is missing.
        OSError: the address is not this machine's, or taken.
    """
    start, read = environment.start_sha256, environment.read_sha256
    if start is None or read is None:
        raise ValueError("a listening runner needs CORRAL_START_TOKEN_SHA256 and CORRAL_READ_TOKEN_SHA256")
    if settings.listen is None:
        return Listener(_socket.socket(fileno=settings.descriptor), start, read)
    host = settings.listen.get("host", environment.host)
    if not host:
        raise ValueError("listen.host: neither set nor in CORRAL_LISTEN_HOST")
    family = _socket.AF_INET6 if ":" in host else _socket.AF_INET
    socket = _socket.socket(family, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    socket.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
    socket.bind((host, int(settings.listen.get("port", PORT))))
    socket.listen(_BACKLOG)
    return Listener(socket, start, read)


def comes_from_inside(socket: "_socket.socket") -> bool:
    """Whether a peer is a process of this sandbox, which then is a tool that speaks to its own runner.

    Over IP: its address is one of this machine's own. Over a Unix socket: it is below this process, or gone.
    """
    if socket.family in {_socket.AF_INET, _socket.AF_INET6}:
        host = str(socket.getpeername()[0]).removeprefix("::ffff:")
        own = str(socket.getsockname()[0]).removeprefix("::ffff:")
        return host in {own, "::1"} or host.startswith("127.")
    credentials = socket.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
    pid = int.from_bytes(credentials[:4], "little")
    # 0 is a process outside this pid namespace.
    return pid != 0 and _is_below(pid, os.getpid())


def _is_below(pid: int, ancestor: int) -> bool:
    while pid > 1 and pid != ancestor:
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                text = file.read()
        except OSError:
            return True
        pid = int(text[text.rfind(b")") + 2 :].split()[1])
    return pid == ancestor


def _sha256(data: bytes) -> str:
    try:
        # `hashlib` brings OpenSSL along: 4 MiB in every sandbox that waits.
        from _sha256 import sha256  # type: ignore[import-not-found]
    except ImportError:  # another name from Python 3.12 on
        from hashlib import sha256
    return str(sha256(data).hexdigest())
