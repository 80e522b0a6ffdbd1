"""One call for a client: of this machine, or of a gateway."""

import atexit
import os
from functools import cache
from typing import TYPE_CHECKING, overload

from corral.client.asynchronous import AsyncClient
from corral.client.gateway.place import VARIABLE
from corral.client.synchronous import Client

if TYPE_CHECKING:
    from corral.client.gateway import AsyncGatewayClient, GatewayClient


@overload
def connect(url: str, *, api_key: str | None = None) -> "GatewayClient": ...
@overload
def connect(url: None = None, *, api_key: str | None = None) -> "Client | GatewayClient": ...
def connect(url: str | None = None, *, api_key: str | None = None) -> "Client | GatewayClient":
    """Return a client of the gateway at a URL; without one, of the gateway that ``CORRAL_GATEWAY`` names; without
    that, of this machine. ``run`` and ``run_task`` are the same on both.

    Args:
        url: such as ``http://127.0.0.1:8000``.
        api_key: opens the gateway; by default ``CORRAL_API_KEY``.

    Raises:
        ValueError: the URL or the key is none.
        NotInstalledError: a gateway is named, and ``corral[client]`` is not installed.
    """
    if not (url or os.environ.get(VARIABLE)):
        return Client()
    from corral.client.gateway import GatewayClient

    return GatewayClient(url, api_key=api_key)


@overload
def connect_async(url: str, *, api_key: str | None = None) -> "AsyncGatewayClient": ...
@overload
def connect_async(url: None = None, *, api_key: str | None = None) -> "AsyncClient | AsyncGatewayClient": ...
def connect_async(
    url: str | None = None, *, api_key: str | None = None
) -> "AsyncClient | AsyncGatewayClient":
    """Return the client that ``connect`` would, for programs with an event loop."""
    if not (url or os.environ.get(VARIABLE)):
        return AsyncClient()
    from corral.client.gateway import AsyncGatewayClient

    return AsyncGatewayClient(url, api_key=api_key)


@cache
def shared_client() -> "Client | GatewayClient":
    """Return the client behind ``corral.run``, started at the first call and closed when the program ends."""
    client = connect()
    atexit.register(client.close)
    return client
