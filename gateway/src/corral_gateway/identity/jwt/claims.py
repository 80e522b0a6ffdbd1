"""From the claims of a token that was verified to a caller. Pure."""

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from corral_gateway.identity.caller import Caller, Reach
from corral_gateway.identity.jwt.issuer import JwtIssuer
from corral_gateway.identity.roles import SCOPES, Role, Scope

#: Callers' names are values of labels.
_MOST_CHARACTERS = 63
_PLAIN = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?", re.ASCII)
#: 120 bits of a hash: nobody finds two subjects with the same.
_HASH_BYTES = 15


def caller_of(claims: Mapping[str, Any], issuer: JwtIssuer) -> Caller:
    """Return who a token speaks for. Its ``sub`` and ``exp`` are there, and of their kinds."""
    subject = claims["sub"]
    roles = _roles(claims, issuer)
    scopes = frozenset(_scopes(claims, issuer))
    if not roles and not scopes and issuer.default_role is not None:
        roles = {issuer.default_role}
    shown = subject.encode("unicode_escape").decode()[:200]
    return Caller(
        name_of(f"jwt.{issuer.name}", subject),
        frozenset(scopes.union(*(SCOPES[role] for role in roles))),
        f"jwt:{issuer.name}:{shown}",
        "jwt",
        next(iter(roles)) if len(roles) == 1 and not scopes else None,
        Reach(issuer.grant),
        datetime.fromtimestamp(claims["exp"], UTC),
    )


def name_of(beginning: str, subject: str) -> str:
    """Return the name of a caller: no two subjects have the same, and it is the value of a label.

    Args:
        beginning: without ``_``.
        subject: anything.
    """
    plain = f"{beginning}.{subject}"
    if len(plain) <= _MOST_CHARACTERS and _PLAIN.fullmatch(subject):
        return plain
    digest = hashlib.sha256(subject.encode("utf-8", "surrogatepass")).digest()[:_HASH_BYTES]
    return f"{beginning}_{base64.b32encode(digest).decode('ascii').lower()}"


def _roles(claims: Mapping[str, Any], issuer: JwtIssuer) -> set[Role]:
    known = {role.value: role for role in Role} | issuer.roles
    return {known[word] for word in _words(_claim(claims, issuer.role_claim)) if word in known}


def _scopes(claims: Mapping[str, Any], issuer: JwtIssuer) -> Iterable[Scope]:
    if issuer.scope_claim is None:
        return ()
    known = {scope.value: scope for scope in Scope}
    return (known[word] for word in _words(_claim(claims, issuer.scope_claim)) if word in known)


def _claim(claims: Mapping[str, Any], path: Sequence[str]) -> object:
    if len(path) == 1 and path[0] not in claims:
        path = path[0].split(".")
    found: object = claims
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _words(value: object) -> list[str]:
    if isinstance(value, str):
        return value.split()
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []
