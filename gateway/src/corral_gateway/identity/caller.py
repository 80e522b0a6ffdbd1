"""Who sends a request, and what they may. Pure."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from corral.api import PermissionLevel
from corral_gateway.identity.roles import Role, Scope

#: How somebody proves who they are.
CredentialKind = Literal["key", "environment", "jwt", "kubernetes"]

#: It becomes the value of a label.
_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", re.ASCII)
#: Callers who prove themselves otherwise have names that begin so; no API key may speak for one of them.
_RESERVED = re.compile(r"(jwt|k8s)[._]|agent-api-key$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Reach:
    """Which tools a caller may use, where that differs from what everybody may."""

    #: Granted to them although BLOCKED_PERMISSIONS names them.
    permissions: frozenset[PermissionLevel] = frozenset()
    #: They may use these alone; None: every one.
    tools: frozenset[str] | None = None


#: What everybody may, no less and no more.
EVERYTHING = Reach()


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a request, however they proved it."""

    #: Whose tasks, files and events these are; the same for all credentials of one caller. The value of a label.
    name: str
    scopes: frozenset[Scope]
    #: What proved it, for the audit: its kind and its public part, such as ``key:0a1b2c3d4e5f``. Never a secret.
    credential: str = ""
    kind: CredentialKind = "key"
    #: None where scopes were given one by one.
    role: Role | None = None
    reach: Reach = EVERYTHING
    #: When the credential opens nothing any more; None: it says nothing of it.
    expires_at: datetime | None = None
    #: The tenant that a Kubernetes token belongs to; None: the gateway's own setting says.
    namespace: str | None = None


def name_problem(name: str) -> str | None:
    """Return why an API key cannot belong to a caller of this name; None: it can."""
    if _NAME.fullmatch(name) is None:
        return "letters, digits, -, _ and ., at most 63 of them"
    if _RESERVED.match(name) is not None:
        return "names that begin with jwt. or k8s., and agent-api-key, belong to callers without API keys"
    return None
