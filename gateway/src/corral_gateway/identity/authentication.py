"""Finds out who sends a request, before anything else is looked at."""

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus

from corral_gateway.identity.api_key import split_key
from corral_gateway.identity.caller import Caller
from corral_gateway.identity.key_store import KeyStore
from corral_gateway.problems import ProblemError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What somebody sent to prove who they are: HTTP headers, or gRPC metadata of the same names."""

    api_key: str | None = None
    authorization: str | None = None

    @property
    def bearer(self) -> str | None:
        """The token of ``Authorization: Bearer``."""
        scheme, _, value = (self.authorization or "").partition(" ")
        return value.strip() if scheme.lower() == "bearer" else None


class Authentication:
    """Knows callers by their credentials."""

    def __init__(self, keys: KeyStore) -> None:
        self._keys = keys

    async def caller(self, credentials: Credentials) -> Caller:
        """Return who sends a request.

        Raises:
            ProblemError: nobody who is known. Why, only the log says.
        """
        sent = credentials.api_key if credentials.api_key is not None else credentials.bearer
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
        return Caller(key.caller, key.scopes, f"key:{key.prefix}")


def _unknown(why: str) -> ProblemError:
    detail = "a key is needed" if why == "no credential was sent" else "this key is not valid"
    return ProblemError(
        HTTPStatus.UNAUTHORIZED,
        "Unauthenticated",
        detail,
        remedy="send X-API-Key: corral_… or Authorization: Bearer corral_…; an admin makes one: corral keys create",
        headers={"WWW-Authenticate": 'Bearer realm="corral"'},
    )
