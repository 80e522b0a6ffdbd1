"""Puts authentication together as the settings say."""

from typing import TYPE_CHECKING

from limits import parse

from corral_gateway.identity.authentication import Authentication
from corral_gateway.identity.failed_attempts import FailedAttempts
from corral_gateway.identity.jwt.tokens import JwtTokens
from corral_gateway.identity.key_cache import KeyCache
from corral_gateway.identity.key_store import KeyStore
from corral_gateway.identity.keys import ApiKeys, EnvironmentKey
from corral_gateway.identity.kubernetes_tokens import ApiServer, KubernetesTokens
from corral_gateway.settings import Settings
from corral_gateway.storage.database import Database
from corral_gateway.tasks.wiring import namespaces_of

if TYPE_CHECKING:
    from corral_gateway.identity.verifiers import Verifier


def authentication_of(settings: Settings, database: Database) -> Authentication:
    """Return what knows callers by their credentials."""
    keys: list[Verifier] = [ApiKeys(KeyCache(KeyStore(database)))]
    if settings.agent_api_key is not None:
        # Before the others: it may look like one of them.
        keys.insert(0, EnvironmentKey(settings.agent_api_key))
    tokens: list[Verifier] = [JwtTokens.of(settings.jwt_issuers)] if settings.jwt_issuers else []
    if settings.kubernetes_tokens:
        namespaces = namespaces_of(settings)
        tokens.append(KubernetesTokens(ApiServer(), settings.kubernetes_audiences, namespaces.of))
    failed = parse(settings.failed_attempts)
    return Authentication(keys, tokens, FailedAttempts(failed.amount, failed.get_expiry()))
