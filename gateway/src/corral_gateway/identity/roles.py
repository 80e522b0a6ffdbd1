"""Roles and the scopes that they have, as data."""

from enum import StrEnum


class Scope(StrEnum):
    """One thing that somebody may do."""

    TASKS_READ = "tasks:read"
    TASKS_RUN = "tasks:run"
    TOOLS_READ = "tools:read"
    TOOLS_WRITE = "tools:write"
    AUDIT_READ = "audit:read"
    KEYS_WRITE = "keys:write"


class Role(StrEnum):
    """What somebody is, for people."""

    VIEWER = "viewer"
    RUNNER = "runner"
    TOOL_ADMIN = "tool-admin"
    AUDITOR = "auditor"
    ADMIN = "admin"


_VIEWER = frozenset({Scope.TASKS_READ, Scope.TOOLS_READ})

SCOPES: dict[Role, frozenset[Scope]] = {
    Role.VIEWER: _VIEWER,
    Role.RUNNER: _VIEWER | {Scope.TASKS_RUN},
    Role.TOOL_ADMIN: _VIEWER | {Scope.TASKS_RUN, Scope.TOOLS_WRITE},
    Role.AUDITOR: _VIEWER | {Scope.AUDIT_READ},
    Role.ADMIN: frozenset(Scope),
}
