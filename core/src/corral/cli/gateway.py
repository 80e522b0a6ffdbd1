"""The gateway that ``corral --gateway URL`` or ``CORRAL_GATEWAY`` points to, and what its errors mean to a person."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from corral.cli.exits import BadInputError, Exit

if TYPE_CHECKING:
    from corral.client.gateway import AsyncGatewayClient, GatewayClient, GatewayError

_T = TypeVar("_T")
#: A key has some seventy characters, a token some thousand.
_MAX_KEY_BYTES = 16 << 10


@dataclass(frozen=True, slots=True)
class Gateway:
    """Where tasks go, and how to get in. Nothing is read or sent before a client is asked for."""

    url: str
    api_key_file: str | None = field(default=None, repr=False)

    def client(self) -> "GatewayClient":
        """Return a client.

        Raises:
            BadInputError: the URL or the key cannot be.
        """
        from corral.client.gateway import GatewayClient

        return self._made(GatewayClient)

    def async_client(self) -> "AsyncGatewayClient":
        """Return a client for an event loop; see ``client``."""
        from corral.client.gateway import AsyncGatewayClient

        return self._made(AsyncGatewayClient)

    def _made(self, client: Callable[..., _T]) -> _T:
        try:
            return client(self.url, api_key=None if self.api_key_file is None else _key_in(self.api_key_file))
        except ValueError as error:
            raise BadInputError(str(error), "correct --gateway, CORRAL_GATEWAY or the key") from None


def gateway_of(context: typer.Context) -> Gateway | None:
    """Return the gateway that a command works at; None: it works on this machine."""
    found = context.find_root().obj
    return found if isinstance(found, Gateway) else None


def needed_gateway(context: typer.Context) -> Gateway:
    """Return the gateway of a command that works nowhere else.

    Raises:
        BadInputError: none is named.
    """
    gateway = gateway_of(context)
    if gateway is None:
        raise BadInputError(
            f"{context.command_path} asks a gateway, and none is named",
            "corral --gateway http://127.0.0.1:8000 …, or set CORRAL_GATEWAY; corral serve starts one",
        )
    return gateway


def told(error: "GatewayError") -> tuple[Exit, list[str], str | None]:
    """Return what an error of a gateway becomes: the exit status, what is wrong, and what to do about it."""
    from corral.client.gateway import errors

    problems = [str(problem) for problem in error.problems] or [error.detail]
    if error.task_id is not None:
        problems.append(f"the task is {error.task_id}")
    remedy = error.remedy
    match error:
        case errors.UnreachableError():
            remedy = "start it (corral serve), or correct --gateway or CORRAL_GATEWAY"
        case errors.UnauthenticatedError():
            remedy = "set CORRAL_API_KEY or name a file with --api-key-file; an admin makes a key: corral keys create"
        case errors.ForbiddenError():
            remedy = remedy or "corral whoami says what your key may do"
        case errors.NotFoundError():
            lists = "corral tools" if error.reason == "ToolNotFound" else "corral tasks"
            remedy = remedy or f"{lists} lists yours"
        case errors.RateLimitedError() | errors.UnavailableError() if error.retry_after_seconds:
            remedy = f"try again in {error.retry_after_seconds:.0f} seconds"
        case errors.GatewayFaultError() if error.request_id:
            remedy = remedy or f"its log has the reason under request id {error.request_id}"
        case _:
            pass
    is_ours = isinstance(error, errors.InvalidRequestError | errors.NotFoundError | errors.ConflictError)
    return Exit.BAD_INPUT if is_ours else Exit.NO_GATEWAY, problems, remedy


def refuse_local(options: dict[str, tuple[Any, str]]) -> None:
    """Refuse options that mean this machine, where a gateway is asked: whoever gives them believes that they hold.

    Args:
        options: their names, with what was given and what to do instead.

    Raises:
        BadInputError: with every one that was given.
    """
    problems = [
        f"{name} cannot go with a gateway: {instead}" for name, (given, instead) in options.items() if given
    ]
    if problems:
        raise BadInputError(problems, "without --gateway and CORRAL_GATEWAY, it runs on this machine")


def _key_in(file: str) -> str:
    try:
        with Path(file).open("rb") as opened:
            return opened.read(_MAX_KEY_BYTES).decode("ascii").strip()
    except OSError as error:
        raise BadInputError(f"--api-key-file {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadInputError(f"--api-key-file {file}: it holds no API key") from None
