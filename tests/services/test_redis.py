"""The server that replicas share."""

import socket
from urllib.parse import urlsplit


def test_M6_a_real_server_answers(redis_server: str) -> None:
    address = urlsplit(redis_server)
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=5) as connection:
        connection.sendall(b"PING\r\n")
        assert connection.recv(16) == b"+PONG\r\n"
