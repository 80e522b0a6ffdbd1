"""Finds out who sends a request, before anything else is looked at."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING

from fastapi import Request

from corral_gateway.identity.api_key import split_key
from corral_gateway.identity.key_store import KeyStore
from corral_gateway.identity.roles import Scope
from corral_gateway.problems import ProblemError

if TYPE_CHECKING:
    from corral_gateway.rate_limits import RateLimits

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a request, and what they may."""

    name: str
    scopes: frozenset[Scope]


class Authentication:
    """Knows callers by their credentials."""

    def __init__(self, keys: KeyStore) -> None:
        self._keys = keys

    async def caller(self, request: Request) -> Caller:
        """Return who sends a request.

        Raises:
            ProblemError: nobody who is known. Why, only the log says.
        """
        sent = _credential(request)
        if sent is None:
            raise _unknown("no credential was sent")
        parts = split_key(sent)
        key = None if parts is None else await self._keys.find(parts[0])
        if parts is None or key is None:
            raise _unknown("no such key")
        refusal = key.refusal(parts[1], datetime.now(UTC))
        if refusal is not None:
            log.warning("key %s was refused: %s", key.prefix, refusal)
            raise _unknown(refusal)
        return Caller(key.caller, key.scopes)


def _credential(request: Request) -> str | None:
    header = request.headers.get("x-api-key")
    if header is not None:
        return header
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    return value.strip() if scheme.lower() == "bearer" else None


def _unknown(why: str) -> ProblemError:
    detail = "a key is needed" if why == "no credential was sent" else "this key is not valid"
    return ProblemError(
        HTTPStatus.UNAUTHORIZED,
        "Unauthenticated",
        detail,
        remedy="send X-API-Key: corral_… or Authorization: Bearer corral_…; an admin makes one: corral keys create",
        headers={"WWW-Authenticate": 'Bearer realm="corral"'},
    )


def allowed(scope: Scope) -> Callable[[Request], Awaitable[Caller]]:
    """Return the dependency of a route that needs a scope."""

    async def caller(request: Request) -> Caller:
        authentication: Authentication = request.app.state.authentication
        found = await authentication.caller(request)
        if scope not in found.scopes:
            raise ProblemError(
                HTTPStatus.FORBIDDEN,
                "Forbidden",
                f"{found.name} may not do this: it needs the scope {scope}",
                remedy="ask an admin for a key of a role that has it: corral keys create --role …",
            )
        limits: RateLimits = request.app.state.rate_limits
        request.state.standing = await limits.request(found.name)
        return found

    return caller
