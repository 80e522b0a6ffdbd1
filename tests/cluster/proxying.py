"""Between a gateway and the API server: breaks what it is told to break, and passes on everything else."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

import urllib3
from kubernetes import client, config

#: Where in the making of a task something happens.
Stage = Literal["before", "after"]
_HOP_BY_HOP = {"host", "connection", "transfer-encoding", "content-length", "accept-encoding"}


class Proxy:
    """Plain HTTP on the loopback, TLS to the API server; credentials are passed on as they come."""

    def __init__(self) -> None:
        #: Called when a task is made: before the API server has heard of it, and after it has answered.
        self.on_create: Callable[[Stage], None] = lambda _stage: None
        #: Nothing is answered, and what is open is broken.
        self.is_away = False
        #: Requests that came, as method and path, watches apart.
        self.requests: list[tuple[str, str]] = []
        self._watches: set[BaseHTTPRequestHandler] = set()
        configuration = client.Configuration()
        config.load_kube_config(os.environ["KUBECONFIG"], client_configuration=configuration)  # type: ignore[no-untyped-call]
        self._host = str(configuration.host).rstrip("/")
        self._pool = urllib3.PoolManager(
            maxsize=32, ca_certs=configuration.ssl_ca_cert, cert_reqs="CERT_REQUIRED"
        )
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                self.raw_requestline = self.rfile.readline(65537)
                if not self.raw_requestline or not self.parse_request():
                    self.close_connection = True
                    return
                with suppress(OSError):
                    proxy._handle(self)

            def log_message(self, *_: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def cut_watches(self) -> int:
        """Break every open watch; return how many there were."""
        watches = list(self._watches)
        for handler in watches:
            _break(handler)
        return len(watches)

    def go_away(self) -> None:
        """Answer nobody any more, until ``is_away`` is false again."""
        self.is_away = True
        self.cut_watches()

    def close(self) -> None:
        """Stop."""
        self._server.shutdown()
        self.cut_watches()
        self._server.server_close()

    def _handle(self, request: BaseHTTPRequestHandler) -> None:
        length = int(request.headers.get("Content-Length") or 0)
        body = request.rfile.read(length) if length else None
        is_watch = "watch=true" in request.path
        if self.is_away:
            _break(request)
            return
        if not is_watch:
            self.requests.append((request.command, request.path.partition("?")[0]))
        makes = request.command == "POST" and request.path.endswith("/agenttasks")
        if makes:
            self.on_create("before")
        headers = {name: text for name, text in request.headers.items() if name.lower() not in _HOP_BY_HOP}
        answer = self._pool.request(
            request.command,
            self._host + request.path,
            body=body,
            headers=headers,
            preload_content=not is_watch,
            retries=False,
            timeout=urllib3.Timeout(connect=10, read=300),
        )
        if makes:
            self.on_create("after")
        if is_watch:
            self._stream(request, answer)
            return
        _begin(request, answer)
        request.send_header("Content-Length", str(len(answer.data)))
        request.end_headers()
        request.wfile.write(answer.data)

    def _stream(self, request: BaseHTTPRequestHandler, answer: urllib3.BaseHTTPResponse) -> None:
        self._watches.add(request)
        try:
            _begin(request, answer)
            request.send_header("Connection", "close")
            request.close_connection = True
            request.end_headers()
            while chunk := answer.read1():
                request.wfile.write(chunk)
                request.wfile.flush()
        finally:
            self._watches.discard(request)
            answer.close()


class KilledError(OSError):
    """Raised from ``on_create``: nothing more is answered to this request."""


@contextmanager
def proxy_before_the_api_server() -> Iterator[Proxy]:
    """Run one."""
    proxy = Proxy()
    try:
        yield proxy
    finally:
        proxy.close()


def _begin(request: BaseHTTPRequestHandler, answer: urllib3.BaseHTTPResponse) -> None:
    request.send_response(answer.status)
    request.send_header("Content-Type", answer.headers.get("Content-Type", "application/json"))


def _break(request: BaseHTTPRequestHandler) -> None:
    """Break a connection as a node does that reboots."""
    request.close_connection = True
    with suppress(OSError):
        request.connection.shutdown(2)
