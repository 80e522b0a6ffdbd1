"""Issuers of tokens, as tests need them: good ones, and those who attack."""

import base64
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import get_default_algorithms

from corral_gateway.identity.caller import Caller
from corral_gateway.identity.jwt.issuer import JwtIssuer
from corral_gateway.identity.jwt.tokens import JwtTokens
from corral_gateway.identity.verifiers import RefusedCredentialError

ISSUER = "https://login.example.com"
SECRET = "a secret that two share, and long enough for any of them: 64 bytes!"
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
#: A private key for each algorithm.
PRIVATE: dict[str, Any] = {
    **dict.fromkeys(("HS256", "HS384", "HS512"), SECRET),
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), RSA),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "ES384": ec.generate_private_key(ec.SECP384R1()),
    "ES512": ec.generate_private_key(ec.SECP521R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}
ED448 = ed448.Ed448PrivateKey.generate()


def pem(private: Any) -> bytes:
    """Return a public key as a PEM file has it."""
    data: bytes = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return data


def issuer(directory: Path, algorithm: str, private: Any = None, **more: Any) -> JwtIssuer:
    """Return what the settings say of an issuer with a key of its own."""
    given: dict[str, Any] = {"secret": SECRET}
    if not algorithm.startswith("HS"):
        file = directory / f"{algorithm}.pem"
        file.write_bytes(pem(private or PRIVATE[algorithm]))
        given = {"public_key_file": file}
    values = {"name": "corp", "issuer": ISSUER, "audiences": "corral", "algorithms": algorithm}
    return JwtIssuer.model_validate(values | given | more)


def claims(**more: Any) -> dict[str, Any]:
    """Return claims that are good for a minute; None takes one away."""
    given = {
        "iss": ISSUER,
        "aud": "corral",
        "sub": "alice",
        "exp": int(time.time()) + 60,
        "roles": ["runner"],
    } | more
    return {name: value for name, value in given.items() if value is not None}


def token(algorithm: str = "RS256", headers: Mapping[str, Any] | None = None, /, **more: Any) -> str:
    """Return a token as a good issuer signs it."""
    return signed(claims(**more), PRIVATE[algorithm], {"alg": algorithm, "typ": "JWT", **(headers or {})})


def signed(body: Any, private: Any, header: Any) -> str:
    """Sign anything, as one who attacks would; a library would refuse some of it."""
    text = f"{_part(header)}.{_part(body)}"
    algorithm = get_default_algorithms()[header["alg"] if header["alg"] in PRIVATE else "RS256"]
    return f"{text}.{_base64(algorithm.sign(text.encode(), algorithm.prepare_key(private)))}"


def unsigned(header: Any, body: Any, signature: bytes = b"") -> str:
    """Return a token with any signature, or none."""
    return f"{_part(header)}.{_part(body)}.{_base64(signature)}"


def jwks(*keys: tuple[str | None, Any, dict[str, Any]]) -> bytes:
    """Return a key set of names, private keys, and what else it says of each."""
    listed = []
    for kid, private, more in keys:
        name = next(
            name for name in PRIVATE if type(PRIVATE[name]) is type(private) or PRIVATE[name] is private
        )
        found = get_default_algorithms()[name].to_jwk(private.public_key(), as_dict=True)
        listed.append({**found, **({} if kid is None else {"kid": kid}), **more})
    return json.dumps({"keys": listed}).encode()


async def caller_of(tokens: JwtTokens, text: str) -> Caller | None:
    """Return who a token speaks for; None: it was refused."""
    try:
        return await tokens.verify(text)
    except RefusedCredentialError:
        return None


def _part(value: Any) -> str:
    return _base64(value if isinstance(value, bytes) else json.dumps(value).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
