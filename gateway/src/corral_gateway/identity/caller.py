"""Who sends a request, and what they may. Pure."""

from dataclasses import dataclass

from corral_gateway.identity.roles import Scope


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a request, however they proved it."""

    #: Whose tasks, files and events these are; the same for all credentials of one caller.
    name: str
    scopes: frozenset[Scope]
    #: What proved it, for the audit: its kind and its public part, such as ``key:0a1b2c3d4e5f``. Never a secret.
    credential: str = ""
