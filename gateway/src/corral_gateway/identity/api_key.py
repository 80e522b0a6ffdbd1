"""API keys: 256 random bits, kept as their hash. Pure.

``corral_PREFIX_SECRET``: the prefix finds the key, the secret proves it. Only who made it has ever seen the whole.
"""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import datetime

from corral_gateway.identity.roles import SCOPES, Role, Scope

_PREFIX_BYTES, _SECRET_BYTES = 6, 32
_FORM = re.compile(r"corral_(?P<prefix>[0-9a-f]{12})_(?P<secret>[A-Za-z0-9_-]{43})", re.ASCII)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is kept of a key."""

    prefix: str
    #: SHA-256 of the secret. It is random and long, so nobody can guess it from a plain hash.
    secret_sha256: bytes
    #: Whose it is: what its tasks are stamped with.
    caller: str
    role: Role
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None

    def refusal(self, secret: str, now: datetime) -> str | None:
        """Return why a secret does not open anything now, for the log alone; None: it does."""
        if not hmac.compare_digest(self.secret_sha256, hashlib.sha256(secret.encode()).digest()):
            return "wrong secret"
        if self.revoked_at is not None:
            return "revoked"
        if self.expires_at is not None and now >= self.expires_at:
            return "expired"
        return None

    @property
    def scopes(self) -> frozenset[Scope]:
        """What it may be used for."""
        return SCOPES[self.role]


def make_key(
    caller: str, role: Role, now: datetime, expires_at: datetime | None = None
) -> tuple[ApiKey, str]:
    """Make a key. Returns what is kept, and the whole, which is shown once."""
    prefix, secret = secrets.token_hex(_PREFIX_BYTES), secrets.token_urlsafe(_SECRET_BYTES)
    key = ApiKey(prefix, hashlib.sha256(secret.encode()).digest(), caller, role, now, expires_at)
    return key, f"corral_{prefix}_{secret}"


def split_key(text: str) -> tuple[str, str] | None:
    """Return prefix and secret of what somebody sent; None: it is no key."""
    match = _FORM.fullmatch(text)
    return None if match is None else (match["prefix"], match["secret"])
