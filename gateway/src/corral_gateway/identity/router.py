"""``GET /v1/whoami``: what a credential is good for, asked by who has it."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from corral.api import PermissionLevel
from corral_gateway.http_door import allowed
from corral_gateway.identity.caller import Caller, CredentialKind
from corral_gateway.identity.roles import Role, Scope

router = APIRouter(tags=["identity"])


class Whoami(BaseModel):
    """A caller."""

    name: str = Field(description="Whose tasks, files and events it sees.")
    role: Role | None = Field(None, description="Absent where scopes were given one by one.")
    scopes: list[Scope] = Field(description="What it may do.")
    credential: CredentialKind = Field(description="How it proved itself.")
    credential_id: str = Field(
        serialization_alias="credentialId", description="As the audit has it; nothing secret."
    )
    expires_at: datetime | None = Field(
        None, serialization_alias="expiresAt", description="When the credential ends, where that is known."
    )
    namespace: str | None = Field(None, description="The tenant that it belongs to, where it says so itself.")
    granted_permissions: list[PermissionLevel] = Field(
        serialization_alias="grantedPermissions", description="Beyond what everybody's tools may do."
    )
    tools: list[str] | None = Field(None, description="The only tools that it may use; absent: every one.")


@router.get("/v1/whoami", operation_id="getWhoami", summary="Who calls", response_model_exclude_none=True)
async def whoami(caller: Annotated[Caller, Depends(allowed(None))]) -> Whoami:
    """Return who calls, what they may do, and how long."""
    return Whoami(
        name=caller.name,
        role=caller.role,
        scopes=sorted(caller.scopes),
        credential=caller.kind,
        credential_id=caller.credential,
        expires_at=caller.expires_at,
        namespace=caller.namespace,
        granted_permissions=sorted(caller.reach.permissions),
        tools=None if caller.reach.tools is None else sorted(caller.reach.tools),
    )
