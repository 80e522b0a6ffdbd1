"""HTTP/1.1 that does not wait for ever, nor take what has no end.

uvicorn with httptools reads heads without any limit of size or time, and bodies and readers may be as slow as they
like (``HttpToolsProtocol``: no timer but that of an idle connection). Its other parser, h11, limits the size of a
head, has no timers either, and parses several times as slowly.
"""

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from corral_gateway.problems import ProblemBody, new_problem_body
from corral_gateway.serving.addresses import Addresses
from corral_gateway.serving.limits import ConnectionLimits


class _HeadRefusedError(Exception):
    """Ends the parsing of a head; the parser wraps it, and uvicorn then answers 400: here what ``_refusal`` says."""


class CarefulProtocol(HttpToolsProtocol):
    """One connection."""

    limits: ClassVar[ConnectionLimits]
    #: Of all connections of the server.
    addresses: ClassVar[Addresses]
    #: Is told the reason of each refusal.
    refused: ClassVar[Callable[[str], None]]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_timer: asyncio.TimerHandle | None = None
        self._body_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        #: Under which name the connection is counted; empty: it is not.
        self._counted_as = ""
        self._in_head = True
        self._head_bytes = 0
        self._fields = 0
        self._body_bytes = 0
        self._unread_bytes = 0
        self._resumed = 0
        self._refusal: tuple[HTTPStatus, str, str] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or refuse it at once."""
        super().connection_made(transport)
        host, proxies = self.client[0] if self.client else "", self.config.forwarded_allow_ips
        counted_as = self.addresses.enter(host, proxies if self.config.proxy_headers else [])
        if counted_as is None:
            self._refuse(
                HTTPStatus.TOO_MANY_REQUESTS,
                "TooManyConnectionsOfAddress",
                "as many connections from this address are open as may be",
            )
            return
        self._counted_as = counted_as
        if len(self.connections) > self.limits.connections:
            self._refuse(
                HTTPStatus.SERVICE_UNAVAILABLE, "TooManyConnections", "as many connections are open as may be"
            )
            return
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection."""
        if self._counted_as:
            self.addresses.leave(self._counted_as)
            self._counted_as = ""
        for timer in (self._head_timer, self._body_timer, self._write_timer):
            if timer is not None:
                timer.cancel()
        self._head_timer = self._body_timer = self._write_timer = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take in what came."""
        if self.transport.is_closing():
            return
        if self._in_head:
            self._head_bytes += len(data)
            self._await_head()
        super().data_received(data)
        # A field without an end is kept by the parser, and told to nobody before it has one.
        if self._in_head and self._head_bytes > self.limits.head_bytes + len(data):
            self._refuse(*_HEAD_TOO_LARGE)

    # --- what the parser tells ---

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self._in_head, self._fields, self._head_bytes = True, 0, 0

    def on_url(self, url: bytes) -> None:
        """Take in a part of the request's target."""
        super().on_url(url)
        if len(self.url) > self.limits.target_bytes:
            self._refusal = HTTPStatus.REQUEST_URI_TOO_LONG, "TargetTooLong", "path and query are too long"
            raise _HeadRefusedError

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take in a field; one that comes after the body is none of the request's."""
        self._fields += 1
        self._head_bytes += len(name) + len(value)
        if self._fields > self.limits.fields or self._head_bytes > 2 * self.limits.head_bytes:
            self._refusal = _HEAD_TOO_LARGE
            raise _HeadRefusedError
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin to work on a request."""
        self._in_head = False
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > self.limits.head_bytes:
            self._refusal = _HEAD_TOO_LARGE
            raise _HeadRefusedError
        self._head_bytes = size
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        self._body_bytes = self._unread_bytes = 0
        self._await_body()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take in a part of a body."""
        self._body_bytes += len(body)
        if self.cycle.response_complete:
            self._unread_bytes += len(body)
            if self._unread_bytes > self.limits.unread_bytes:
                self.transport.close()
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Know that a request is whole."""
        if self._body_timer is not None:
            self._body_timer.cancel()
            self._body_timer = None
        self._in_head, self._head_bytes = True, 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer a request that cannot be read."""
        refusal = self._refusal or (HTTPStatus.BAD_REQUEST, "MalformedRequest", msg)
        self._refuse(*refusal)

    # --- time ---

    def _await_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.limits.slow_seconds, self._head_is_late)

    def _head_is_late(self) -> None:
        self._refuse(HTTPStatus.REQUEST_TIMEOUT, "RequestTimeout", "the request's head did not come in time")

    def _await_body(self) -> None:
        seconds = self.limits.slow_seconds
        self._body_timer = self.loop.call_later(seconds, self._check_body, self._body_bytes)

    def _check_body(self, before: int) -> None:
        enough = self._body_bytes - before >= self.limits.bytes_per_second * self.limits.slow_seconds
        # While we do not read, nothing can come.
        if enough or self.flow.read_paused:
            self._await_body()
            return
        self._refuse(HTTPStatus.REQUEST_TIMEOUT, "RequestTimeout", "the request's body came too slowly")

    def pause_writing(self) -> None:
        """Know that a reader does not keep up."""
        super().pause_writing()
        self._watch_writes()

    def resume_writing(self) -> None:
        """Know that a reader has caught up."""
        self._resumed += 1
        super().resume_writing()

    def on_response_complete(self) -> None:
        """Know that an answer is whole; its end may still wait to be read."""
        super().on_response_complete()
        if self.transport.get_write_buffer_size():
            self._watch_writes()

    def _watch_writes(self) -> None:
        if self._write_timer is None:
            left = self.transport.get_write_buffer_size()
            self._write_timer = self.loop.call_later(
                self.limits.slow_seconds, self._check_writes, left, self._resumed
            )

    def _check_writes(self, left_before: int, resumed_before: int) -> None:
        self._write_timer = None
        left = self.transport.get_write_buffer_size()
        if not left:
            return
        enough = left_before - left >= self.limits.bytes_per_second * self.limits.slow_seconds
        if enough or self._resumed != resumed_before:
            self._watch_writes()
            return
        type(self).refused("SlowReader")
        self.transport.abort()

    # --- refusals ---

    def _refuse(self, status: HTTPStatus, reason: str, detail: str) -> None:
        if self.transport.is_closing():
            return
        type(self).refused(reason)
        cycle: RequestResponseCycle | None = self.cycle
        # Into an answer that has begun nothing can be said; nor before that of a request which came earlier.
        if cycle is None or cycle.response_complete or not (cycle.response_started or self.pipeline):
            self.transport.write(_answer(status, new_problem_body(status, reason, detail)))
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()
        self.transport.close()
        self._watch_writes()


_HEAD_TOO_LARGE = (
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    "HeadersTooLarge",
    "the request's header fields are too many or too large",
)


def careful_protocol(
    limits: ConnectionLimits, refused: Callable[[str], None] = lambda _: None
) -> type[CarefulProtocol]:
    """Return the protocol of a server."""
    own = {
        "limits": limits,
        "addresses": Addresses(limits.connections_of_address),
        "refused": staticmethod(refused),
    }
    return type("CarefulProtocol", (CarefulProtocol,), own)


def _answer(status: HTTPStatus, body: ProblemBody) -> bytes:
    content = body.model_dump_json(by_alias=True, exclude_none=True).encode()
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nconnection: close\r\n"
        f"content-type: application/problem+json\r\ncontent-length: {len(content)}\r\n"
        f"x-request-id: {body.request_id}\r\nretry-after: 1\r\n\r\n"
    )
    return head.encode() + content
