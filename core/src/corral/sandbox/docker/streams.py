"""The stream of an attached container: standard output and standard error in one connection.

Docker Engine API, ``POST /containers/ID/attach``, "Stream format": a header of eight bytes, of which the first says
which stream and the last four how long, then so many bytes.
"""

import asyncio
from collections.abc import Callable
from typing import Final

_HEADER: Final = 8
STDOUT: Final = 1
STDERR: Final = 2
#: No container writes so much at once; a longer one is not this format.
_MAX_BYTES: Final = 64 << 20


class StreamError(ValueError):
    """What came is not the format of an attached stream."""


class Demultiplexer:
    """Takes the stream apart, however it was cut into pieces on the way."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Take a piece; return the complete frames, as stream number and content.

        Raises:
            StreamError: it is not the format.
        """
        self._rest += data
        found = []
        start = 0
        while len(self._rest) - start >= _HEADER:
            stream = self._rest[start]
            size = int.from_bytes(self._rest[start + 4 : start + _HEADER], "big")
            if stream not in {STDOUT, STDERR} or any(self._rest[start + 1 : start + 4]) or size > _MAX_BYTES:
                raise StreamError("this is no attached stream of a container without a terminal")
            end = start + _HEADER + size
            if len(self._rest) < end:
                break
            found.append((stream, self._rest[start + _HEADER : end]))
            start = end
        self._rest = self._rest[start:]
        return found


class AttachedProtocol(asyncio.Protocol):
    """Gives a container's standard output to one protocol, and its standard error to a function."""

    def __init__(
        self, inner: asyncio.Protocol, on_stderr: Callable[[bytes], None], on_end: Callable[[], None]
    ) -> None:
        self._inner = inner
        self._on_stderr = on_stderr
        self._on_end = on_end
        self._frames = Demultiplexer()
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        try:
            frames = self._frames.feed(data)
        except StreamError as error:
            self._on_stderr(str(error).encode())
            assert isinstance(self._transport, asyncio.Transport)
            self._transport.abort()
            return
        for stream, content in frames:
            if stream == STDOUT:
                self._inner.data_received(content)
            else:
                self._on_stderr(content)

    def connection_lost(self, exc: Exception | None) -> None:
        self._on_end()
        self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()
