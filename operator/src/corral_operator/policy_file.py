"""The policy that tasks are held against, from a YAML file that the chart mounts."""

from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Field, ValidationError

from corral.api import ALL_PERMISSIONS, MAXIMUM_LIMITS, Limits, PermissionLevel
from corral.api.model import ApiModel, RelativePath, ToolName
from corral.api.problems import problems_in
from corral.policy import Policy


class PolicyError(ValueError):
    """The policy file is wrong; the operator does not start with another one than was meant."""


class PolicyFile(ApiModel):
    """What the file may say. What is absent stays as the default policy has it."""

    permissions: Annotated[tuple[PermissionLevel, ...], Field(max_length=len(PermissionLevel))] = (
        PermissionLevel.READ,
        PermissionLevel.WRITE,
        PermissionLevel.EXECUTE,
    )
    blocked_permissions: Annotated[tuple[PermissionLevel, ...], Field(max_length=len(PermissionLevel))] = ()
    #: The tools that may run at all; absent: every one.
    allowlist: tuple[ToolName, ...] | None = None
    allowed_paths: tuple[RelativePath, ...] = (".",)
    maximum_limits: Limits | None = None


def read_policy(path: str | None) -> Policy:
    """Read the policy; without a file, the default one.

    Raises:
        PolicyError: the file cannot be read or is wrong; the message names the field.
    """
    if path is None:
        return Policy()
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        found = PolicyFile.model_validate({} if content is None else content)
    except ValidationError as error:
        problems = "; ".join(f"{one.path}: {one.message}" for one in problems_in(error, PolicyFile))
        raise PolicyError(f"{path}: {problems}") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise PolicyError(f"{path}: {error}") from error
    return Policy(
        permissions=frozenset(found.permissions) & ALL_PERMISSIONS,
        blocked_permissions=frozenset(found.blocked_permissions),
        allowlist=None if found.allowlist is None else frozenset(found.allowlist),
        allowed_paths=found.allowed_paths,
        maximum_limits=MAXIMUM_LIMITS
        if found.maximum_limits is None
        else found.maximum_limits.merged_over(MAXIMUM_LIMITS),
    )
