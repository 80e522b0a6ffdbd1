"""API keys: 256 random bits, kept as their hash. Pure.

``corral_PREFIX_SECRET``: the prefix finds the key, the secret proves it. Only who made it has ever seen the whole.
"""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, replace
from datetime import datetime

from corral_gateway.identity.caller import EVERYTHING, Caller, Reach, name_problem
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
    #: It may be used for these alone, of what its role has; None: for all of that.
    narrowed_to: frozenset[Scope] | None = None
    reach: Reach = EVERYTHING
    #: The secret before the last rotation, which opens until then.
    previous_sha256: bytes | None = None
    previous_expires_at: datetime | None = None
    #: To the minute; None: never.
    last_used_at: datetime | None = None

    def refusal(self, secret: str, now: datetime) -> str | None:
        """Return why a secret does not open anything now, for the log alone; None: it does."""
        sent = hashlib.sha256(secret.encode()).digest()
        # Both are compared, whatever the first says: the time taken tells nothing.
        current = hmac.compare_digest(self.secret_sha256, sent)
        previous = hmac.compare_digest(self.previous_sha256 or bytes(32), sent)
        if not current and not previous:
            return "wrong secret"
        if self.revoked_at is not None:
            return "revoked"
        if self.expires_at is not None and now >= self.expires_at:
            return "expired"
        if not current and (self.previous_expires_at is None or now >= self.previous_expires_at):
            return "rotated"
        if name_problem(self.caller) is not None:
            return "it belongs to a name that no key may have"
        return None

    @property
    def scopes(self) -> frozenset[Scope]:
        """What it may be used for."""
        return SCOPES[self.role] if self.narrowed_to is None else SCOPES[self.role] & self.narrowed_to

    def as_caller(self) -> Caller:
        """Return who sends this key."""
        return Caller(
            self.caller,
            self.scopes,
            f"key:{self.prefix}",
            "key",
            self.role if self.narrowed_to is None else None,
            self.reach,
            self.expires_at,
        )


def make_key(
    caller: str,
    role: Role,
    now: datetime,
    expires_at: datetime | None = None,
    *,
    narrowed_to: frozenset[Scope] | None = None,
    reach: Reach = EVERYTHING,
) -> tuple[ApiKey, str]:
    """Make a key. Returns what is kept, and the whole, which is shown once."""
    prefix, secret = secrets.token_hex(_PREFIX_BYTES), secrets.token_urlsafe(_SECRET_BYTES)
    key = ApiKey(
        prefix,
        _sha256(secret),
        caller,
        role,
        now,
        expires_at,
        narrowed_to=narrowed_to,
        reach=reach,
    )
    return key, _whole(prefix, secret)


def rotated(key: ApiKey, previous_until: datetime) -> tuple[ApiKey, str]:
    """Return a key with a new secret, and the whole; the secret that it had opens until then, an older one not."""
    secret = secrets.token_urlsafe(_SECRET_BYTES)
    changed = replace(
        key,
        secret_sha256=_sha256(secret),
        previous_sha256=key.secret_sha256,
        previous_expires_at=previous_until,
    )
    return changed, _whole(key.prefix, secret)


def split_key(text: str) -> tuple[str, str] | None:
    """Return prefix and secret of what somebody sent; None: it is no key."""
    match = _FORM.fullmatch(text)
    return None if match is None else (match["prefix"], match["secret"])


def _sha256(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _whole(prefix: str, secret: str) -> str:
    return f"corral_{prefix}_{secret}"
