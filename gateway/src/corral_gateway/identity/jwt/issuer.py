"""Who may sign tokens, and what their claims mean: one entry of CORRAL_JWT_ISSUERS."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator
from pydantic.alias_generators import to_camel

from corral.api import PermissionLevel
from corral_gateway.identity.jwt.keys import (
    ALGORITHMS,
    HMAC,
    VerificationKey,
    key_of_pem,
    key_of_secret,
    keys_of_jwks,
)
from corral_gateway.identity.roles import Role
from corral_gateway.serving.addresses import is_loopback


def _one_or_more(value: object) -> object:
    return (value,) if isinstance(value, str) else value


_Words = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=512)], ...], BeforeValidator(_one_or_more)
]


class JwtIssuer(BaseModel):
    """Somebody who signs tokens."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        populate_by_name=True,
        hide_input_in_errors=True,
    )

    #: Its callers are ``jwt.NAME.SUBJECT``: no issuer can speak for another's, nor for callers with API keys.
    name: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,18}[a-z0-9])?$")]
    #: What ``iss`` is, to the letter.
    issuer: Annotated[str, Field(min_length=1, max_length=512)]
    #: One of them has to be in ``aud``.
    audiences: Annotated[_Words, Field(min_length=1)]
    #: The only ones that its tokens may be signed with.
    algorithms: Annotated[_Words, Field(min_length=1)]

    # --- its key: exactly one of these ---
    secret: SecretStr | None = None
    secret_file: Path | None = None
    public_key_file: Path | None = None
    jwks_file: Path | None = None
    jwks_url: str | None = None

    #: The authority that ``jwks_url`` is trusted by; None: those of the system.
    ca_file: Path | None = None
    #: A key set is asked for again after so long: a key that the issuer took back verifies no longer.
    cache_seconds: Annotated[float, Field(ge=1, le=86_400)] = 300
    #: While its endpoint is down, the last key set serves on for so long.
    stale_seconds: Annotated[float, Field(ge=0, le=7 * 86_400)] = 3600
    #: An unknown key makes the set be asked for again, no more often than this.
    refetch_seconds: Annotated[float, Field(ge=1, le=3600)] = 10

    #: Clocks may differ by so much.
    leeway_seconds: Annotated[float, Field(ge=0, le=120)] = 30
    #: The claim that says the roles: a name, or names one inside the other, with dots or as a list.
    role_claim: _Words = ("roles",)
    #: What a value of it means here; one that is not listed means the role of that name.
    roles: dict[str, Role] = {}
    #: A claim with scopes of this gateway, such as ``scope``; None: none is read.
    scope_claim: _Words | None = None
    #: Whose tokens say no role and no scope that is known here; None: they may do nothing.
    default_role: Role | None = None
    #: Permissions of tools that its callers have although BLOCKED_PERMISSIONS names them.
    grant: frozenset[PermissionLevel] = frozenset()

    @model_validator(mode="after")
    def _check(self) -> Self:
        unknown = set(self.algorithms) - ALGORITHMS
        if unknown:
            raise ValueError(
                f"algorithms: {', '.join(sorted(unknown))}: there are {', '.join(sorted(ALGORITHMS))}"
            )
        given = [name for name in _KEY_FIELDS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"exactly one of {', '.join(map(to_camel, _KEY_FIELDS))} says its key")
        symmetric = given[0] in {"secret", "secret_file"}
        if symmetric is not HMAC.issuperset(self.algorithms) or (
            not symmetric and HMAC & set(self.algorithms)
        ):
            raise ValueError(
                f"algorithms: {to_camel(given[0])} is for {'HS' if symmetric else 'RS, PS, ES and EdDSA'} alone"
            )
        if self.jwks_url is not None and not _is_safe(self.jwks_url):
            raise ValueError("jwksUrl: it is https, or http on the loopback")
        keys = self.static_keys()
        for algorithm in self.algorithms if keys else ():
            if not any(algorithm in key.algorithms for key in keys):
                raise ValueError(f"algorithms: the key is none for {algorithm}, or too short")
        return self

    def __str__(self) -> str:
        return f"{self.name}={self.issuer}"

    def static_keys(self) -> Sequence[VerificationKey]:
        """Return the keys that the settings themselves give; none where a key set does.

        Raises:
            ValueError: they cannot be read.
        """
        for name, read in (("secret_file", key_of_secret), ("public_key_file", key_of_pem)):
            path: Path | None = getattr(self, name)
            if path is not None:
                return [read(_read(path).strip() if read is key_of_secret else _read(path))]
        if self.jwks_file is not None:
            keys_of_jwks(
                _read(self.jwks_file)
            )  # it is read again when it changes, but wrong it starts nothing
        return [] if self.secret is None else [key_of_secret(self.secret.get_secret_value().encode())]


_KEY_FIELDS = ("secret", "secret_file", "public_key_file", "jwks_file", "jwks_url")


def no_two_alike(issuers: tuple[JwtIssuer, ...]) -> tuple[JwtIssuer, ...]:
    """Refuse issuers that could be taken for each other."""
    for field in ("name", "issuer"):
        values: list[Any] = [getattr(one, field) for one in issuers]
        if len(set(values)) != len(values):
            raise ValueError(f"two issuers have the same {field}")
    return issuers


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None


def _is_safe(url: str) -> bool:
    parts = urlsplit(url)
    if parts.scheme == "https":
        return bool(parts.hostname)
    return parts.scheme == "http" and is_loopback(parts.hostname or "")
