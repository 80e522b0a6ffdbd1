"""The rules that a task is held against, as plain values."""

from dataclasses import dataclass

from corral.api import (
    ALL_PERMISSIONS,
    MAXIMUM_LIMITS,
    Limits,
    Network,
    PermissionLevel,
    Reason,
    ResolvedLimits,
)


@dataclass(frozen=True, slots=True)
class Policy:
    """What tasks may do. The default grants reading, writing and executing inside the sandbox, no more."""

    #: Granted; ``admin`` includes all.
    permissions: frozenset[PermissionLevel] = frozenset(
        {PermissionLevel.READ, PermissionLevel.WRITE, PermissionLevel.EXECUTE}
    )
    #: Taken away again, also from ``admin``.
    blocked_permissions: frozenset[PermissionLevel] = frozenset()
    #: The tools that may run at all; None: every registered one.
    allowlist: frozenset[str] | None = None
    #: What of a workspace a task may ask for.
    allowed_paths: tuple[str, ...] = (".",)
    #: More than this is refused.
    maximum_limits: Limits = MAXIMUM_LIMITS
    #: Directories of the host below which ``workspace.hostPath`` may lie; empty: no task may use the host's.
    host_paths: tuple[str, ...] = ()


#: For somebody who runs tasks on a machine of their own: all but network and system.
LAPTOP_POLICY = Policy(
    permissions=ALL_PERMISSIONS,
    blocked_permissions=frozenset({PermissionLevel.NETWORK, PermissionLevel.SYSTEM, PermissionLevel.ADMIN}),
    host_paths=("/",),
)


@dataclass(frozen=True, slots=True)
class Allowed:
    """The execution may start, with exactly this."""

    limits: ResolvedLimits
    #: What the sandbox lets the tool do; ``admin`` is spelled out, ``network`` is there only with a network.
    permissions: frozenset[PermissionLevel]
    #: Relative to the workspace.
    allowed_paths: tuple[str, ...]
    network: Network


@dataclass(frozen=True, slots=True)
class Refused:
    """The execution must not start."""

    reason: Reason
    #: The rule that refuses, such as ``permissions`` or ``maximumLimits``.
    rule: str
    message: str
    #: What somebody who may would have to change.
    how_to_grant: str
    #: The field of the task that asks for too much, if one does.
    field: str | None = None
