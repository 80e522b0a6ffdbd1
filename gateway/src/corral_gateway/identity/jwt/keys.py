"""Keys that verify tokens, and which algorithms each is for. Pure.

A key is bound to algorithms by its own kind, never by what a token says: so no public key is ever taken for the secret
of an HMAC (RFC 8725, 2.1 and 3.1).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from cryptography.x509 import load_pem_x509_certificate
from jwt import PyJWK
from jwt.exceptions import PyJWTError

#: A secret is at least as long as its hash (RFC 7518, 3.2).
_HMAC_BYTES = {"HS256": 32, "HS384": 48, "HS512": 64}
HMAC = frozenset(_HMAC_BYTES)
_RSA = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
ALGORITHMS = HMAC | _RSA | frozenset(_CURVES.values()) | {"EdDSA"}
#: Fewer are too weak (RFC 7518, 3.3); more make each wrong token dear.
_RSA_BITS = range(2048, 8193)
#: What of a JWK is public. A key set that holds more is read without it.
_PUBLIC_MEMBERS = frozenset({"kty", "n", "e", "crv", "x", "y"})
#: Which algorithm to read a JWK with; what it is for, its key says afterwards.
_READ_AS = {"RSA": "RS256", "OKP": "EdDSA"}
_READ_CURVE_AS = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
#: No issuer has more at a time.
_MOST_KEYS = 64


class KeyProblemError(ValueError):
    """This is no key that can be used. The message holds nothing of the key."""


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A key, with the algorithms that it verifies."""

    #: Named by tokens that are signed with it; None: it has no name.
    kid: str | None
    key: Any
    algorithms: frozenset[str]


def key_of_secret(secret: bytes) -> VerificationKey:
    """Return a secret that is shared with the issuer.

    Raises:
        KeyProblemError: it is too short for any algorithm.
    """
    fits = frozenset(name for name, length in _HMAC_BYTES.items() if len(secret) >= length)
    if not fits:
        raise KeyProblemError(f"a secret has at least {min(_HMAC_BYTES.values())} bytes")
    return VerificationKey(None, secret, fits)


def key_of_pem(data: bytes) -> VerificationKey:
    """Return the public key of a PEM file, or that of a certificate in it.

    Raises:
        KeyProblemError: it is none, or too weak.
    """
    try:
        if b"BEGIN CERTIFICATE" in data:
            public: Any = load_pem_x509_certificate(data).public_key()
        else:
            public = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        raise KeyProblemError("it holds no public key in PEM form") from None
    return VerificationKey(None, public, _algorithms(public))


def keys_of_jwks(data: bytes) -> list[VerificationKey]:
    """Return the public keys of a JSON Web Key Set (RFC 7517). One that cannot be used is left out.

    Raises:
        KeyProblemError: it is no key set, or none of its keys can be used.
    """
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        raise KeyProblemError("it is no JSON") from None
    listed = body.get("keys") if isinstance(body, dict) else None
    if not isinstance(listed, list):
        raise KeyProblemError("it is no key set: it has no list `keys`")
    found = [key for one in listed[:_MOST_KEYS] if (key := _key_of_jwk(one)) is not None]
    if not found:
        raise KeyProblemError("it has no public key that can be used")
    return found


def _key_of_jwk(jwk: object) -> VerificationKey | None:
    if not isinstance(jwk, dict) or jwk.get("use", "sig") != "sig":
        return None
    operations, kid = jwk.get("key_ops", ["verify"]), jwk.get("kid")
    if not isinstance(operations, list) or "verify" not in operations:
        return None
    if kid is not None and not isinstance(kid, str):
        return None
    read_as = _reads(jwk)
    if read_as is None:
        return None
    try:
        public = PyJWK({name: jwk[name] for name in _PUBLIC_MEMBERS & jwk.keys()}, read_as).key
        fits = _algorithms(public)
    except (PyJWTError, ValueError, TypeError, KeyError, UnsupportedAlgorithm):
        return None
    if jwk.get("alg") is not None:
        fits &= frozenset({str(jwk["alg"])})
    return VerificationKey(kid, public, fits) if fits else None


def _reads(jwk: Mapping[str, Any]) -> str | None:
    kty, curve = jwk.get("kty"), jwk.get("crv")
    # A secret in a set of public keys is none: kty "oct" is not read at all.
    if kty == "EC":
        return _READ_CURVE_AS.get(curve) if isinstance(curve, str) else None
    return _READ_AS.get(kty) if isinstance(kty, str) else None


def _algorithms(public: object) -> frozenset[str]:
    match public:
        case RSAPublicKey():
            if public.key_size not in _RSA_BITS:
                raise KeyProblemError(f"an RSA key has {_RSA_BITS[0]} to {_RSA_BITS[-1]} bits")
            return _RSA
        case EllipticCurvePublicKey() if public.curve.name in _CURVES:
            return frozenset({_CURVES[public.curve.name]})
        case Ed25519PublicKey() | Ed448PublicKey():
            return frozenset({"EdDSA"})
        case _:
            raise KeyProblemError("it is a key of a kind that no algorithm here takes")
