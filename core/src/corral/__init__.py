"""Corral: each tool call of an AI agent alone in a single-use sandbox.

>>> import corral
>>> corral.run("python", code="6 * 7").result
42
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from corral.api import AgentTask
    from corral.client import AsyncClient, Client, connect, connect_async

__all__ = ["AsyncClient", "Client", "__version__", "connect", "connect_async", "run"]


def run(tool: str, /, *args: Any, **arguments: Any) -> "AgentTask":
    """Run one tool in a sandbox and return the task with its result; see ``Client.run``.

    The first call starts a client that lasts until the program ends: of the gateway that ``CORRAL_GATEWAY`` names, or
    of this machine.
    """
    from corral.client.connecting import shared_client

    return shared_client().run(tool, *args, **arguments)


def __getattr__(name: str) -> Any:
    # The clients are imported when they are asked for: a program that only reads manifests does without them.
    if name in {"AsyncClient", "Client", "connect", "connect_async"}:
        import corral.client

        return getattr(corral.client, name)
    raise AttributeError(f"module 'corral' has no attribute {name!r}")
