"""Verifies signed tokens (RFC 7519), as RFC 8725 advises."""

import base64
import binascii
import json
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import jwt
from jwt.exceptions import PyJWTError

from corral_gateway.identity.caller import Caller
from corral_gateway.identity.jwt.claims import caller_of
from corral_gateway.identity.jwt.issuer import JwtIssuer
from corral_gateway.identity.jwt.key_sources import Endpoint, KeySet, KeySetFile, KeySource, StaticKeys
from corral_gateway.identity.jwt.keys import VerificationKey
from corral_gateway.identity.remembered import Remembered
from corral_gateway.identity.verifiers import RefusedCredentialError

#: A key that its issuer took back verifies for so long after that was seen.
_KEPT_SECONDS = 10.0
#: Of keys without a name no more are tried on one token.
_MOST_TRIES = 16
_MOST_CHARACTERS = 512
#: A token that says what it is for is refused where it is for something else (RFC 8725, 3.11).
_TYPES = frozenset({"jwt", "at+jwt", "application/at+jwt"})


class JwtTokens:
    """Implements ``Verifier``."""

    costs = False

    def __init__(
        self,
        issuers: Sequence[tuple[JwtIssuer, KeySource]],
        closing: Sequence[Callable[[], Awaitable[None]]] = (),
    ) -> None:
        self._issuers = {issuer.issuer: (issuer, keys) for issuer, keys in issuers}
        self._closing = tuple(closing)
        # A signature costs a third of a millisecond, which a caller's every request would.
        self._remembered = Remembered(_KEPT_SECONDS)

    @classmethod
    def of(cls, issuers: Sequence[JwtIssuer]) -> "JwtTokens":
        """Return what verifies tokens of these issuers."""
        sources: list[tuple[JwtIssuer, KeySource]] = []
        closing: list[Callable[[], Awaitable[None]]] = []
        for issuer in issuers:
            source: KeySource = StaticKeys(issuer.static_keys())
            if issuer.jwks_file is not None:
                source = KeySetFile(issuer.jwks_file, issuer.name)
            elif issuer.jwks_url is not None:
                endpoint = Endpoint(issuer.jwks_url, issuer.ca_file)
                source = KeySet(issuer, endpoint.fetch)
                closing.append(endpoint.close)
            sources.append((issuer, source))
        return cls(sources, closing=closing)

    def known(self, text: str) -> Caller | None:
        """See ``Verifier``."""
        answer = self._remembered.answer(text)
        return None if answer is None else answer.caller

    async def verify(self, text: str) -> Caller | None:
        """See ``Verifier``."""
        parts = _read(text)
        if parts is None:
            return None
        header, unproven = parts
        issuer = unproven.get("iss")
        known = self._issuers.get(issuer) if isinstance(issuer, str) else None
        if known is None:
            return None
        of, source = known
        _check_header(header, of)
        asked = time.monotonic()
        keys = _fitting(await source.keys(header.get("kid")), header["alg"])
        if not keys:
            raise RefusedCredentialError(f"token of {of.name}: no key of it is for this token")
        refusal = ""
        for key in keys:
            try:
                caller = caller_of(_claims(text, key, header["alg"], of), of)
            except (PyJWTError, ValueError, TypeError) as error:
                refusal = f"token of {of.name}: {type(error).__name__}: {str(error)[:200]!a}"
            else:
                self._remembered.keep(text, caller, asked)
                return caller
        raise RefusedCredentialError(refusal)

    async def close(self) -> None:
        """See ``Verifier``."""
        for _, source in self._issuers.values():
            await source.close()
        for close in self._closing:
            await close()


#: The year 9999: later ones are no dates here.
_END_OF_TIME = 253_402_300_799


def _check_header(header: Mapping[str, Any], issuer: JwtIssuer) -> None:
    algorithm, kid, kind = header.get("alg"), header.get("kid"), header.get("typ")
    if not isinstance(algorithm, str) or algorithm not in issuer.algorithms:
        raise RefusedCredentialError(f"token of {issuer.name}: algorithm {str(algorithm)[:20]!r}")
    # What a token calls critical has to be understood, and nothing is (RFC 7515, 4.1.11).
    if "crit" in header or "b64" in header:
        raise RefusedCredentialError(f"token of {issuer.name}: it has critical extensions")
    if kid is not None and not (isinstance(kid, str) and len(kid) <= _MOST_CHARACTERS):
        raise RefusedCredentialError(f"token of {issuer.name}: kid is no name")
    if kind is not None and not (isinstance(kind, str) and kind.lower() in _TYPES):
        raise RefusedCredentialError(f"token of {issuer.name}: it is of the type {str(kind)[:20]!r}")


def _fitting(keys: Sequence[VerificationKey], algorithm: str) -> list[VerificationKey]:
    return [key for key in keys if algorithm in key.algorithms][:_MOST_TRIES]


def _claims(text: str, key: VerificationKey, algorithm: str, issuer: JwtIssuer) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(
        text,
        key.key,
        algorithms=[algorithm],
        audience=issuer.audiences,
        issuer=issuer.issuer,
        leeway=issuer.leeway_seconds,
        options={"require": ["exp", "iss", "aud", "sub"]},
    )
    for name in ("exp", "nbf", "iat"):
        value = claims.get(name, 0)
        # What a library is so kind to turn into a number is none (RFC 7519, 2).
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{name} is no number")
    if not 0 < claims["exp"] < _END_OF_TIME:
        raise ValueError("exp is no time")
    if not 0 < len(claims["sub"]) <= _MOST_CHARACTERS:
        raise ValueError("sub is empty, or too long")
    return claims


def unproven_claims(text: str) -> dict[str, Any]:
    """Return what a token says, if it is one that says anything: nothing to rely on."""
    parts = _read(text)
    return {} if parts is None else parts[1]


def _read(text: str) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Return header and claims of what looks like a signed token, nothing of it proven; None: it does not."""
    parts = text.split(".")
    if len(parts) != 3:
        return None
    try:
        header, claims = (
            json.loads(base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True))
            for part in parts[:2]
        )
    except (binascii.Error, ValueError, RecursionError):
        return None
    return (header, claims) if isinstance(header, dict) and isinstance(claims, dict) else None
