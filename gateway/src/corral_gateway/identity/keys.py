"""Verifies API keys: those in the database, and the one that the environment gives."""

import hashlib
import hmac
from datetime import UTC, datetime

from pydantic import SecretStr

from corral_gateway.identity.api_key import split_key
from corral_gateway.identity.caller import Caller
from corral_gateway.identity.key_cache import KeyCache
from corral_gateway.identity.roles import SCOPES, Role
from corral_gateway.identity.verifiers import RefusedCredentialError

#: Whose AGENT_API_KEY is. It runs tools and tasks, which is what the document it comes from has it for.
ENVIRONMENT_CALLER = Caller(
    "agent-api-key", SCOPES[Role.RUNNER], "environment:AGENT_API_KEY", "environment", Role.RUNNER
)


class ApiKeys:
    """Implements ``Verifier`` for the keys in the database."""

    costs = False

    def __init__(self, cache: KeyCache) -> None:
        self._cache = cache

    def known(self, text: str) -> Caller | None:
        """See ``Verifier``."""
        del text
        return None

    async def verify(self, text: str) -> Caller | None:
        """See ``Verifier``."""
        parts = split_key(text)
        if parts is None:
            return None
        prefix, secret = parts
        key = await self._cache.find(prefix)
        if key is None:
            raise RefusedCredentialError("a key that there is not")
        now = datetime.now(UTC)
        refusal = key.refusal(secret, now)
        if refusal is not None:
            raise RefusedCredentialError(f"key {prefix}: {refusal}")
        self._cache.used(key, now)
        return key.as_caller()

    async def close(self) -> None:
        """See ``Verifier``."""
        await self._cache.close()


class EnvironmentKey:
    """Implements ``Verifier`` for AGENT_API_KEY."""

    costs = False

    def __init__(self, key: SecretStr) -> None:
        self._sha256 = _sha256(key.get_secret_value())

    def known(self, text: str) -> Caller | None:
        """See ``Verifier``."""
        del text
        return None

    async def verify(self, text: str) -> Caller | None:
        """See ``Verifier``. Of a text that is no such key nobody can say of what kind it is."""
        return ENVIRONMENT_CALLER if hmac.compare_digest(self._sha256, _sha256(text)) else None

    async def close(self) -> None:
        """See ``Verifier``."""


def _sha256(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
