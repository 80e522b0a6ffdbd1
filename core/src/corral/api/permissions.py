"""What a tool may do, in six words."""

from collections.abc import Iterable
from enum import StrEnum


class PermissionLevel(StrEnum):
    """The permission levels of the Core API document (FEATURES C4)."""

    READ = "read"
    """Can read data and files."""
    WRITE = "write"
    """Can modify data and files."""
    EXECUTE = "execute"
    """Can execute commands and tools."""
    NETWORK = "network"
    """Can make network requests."""
    SYSTEM = "system"
    """Can modify system settings."""
    ADMIN = "admin"
    """Full access: includes all above."""


ALL_PERMISSIONS = frozenset(PermissionLevel)


def expand_permissions(permissions: Iterable[PermissionLevel]) -> frozenset[PermissionLevel]:
    """Return the permissions with what ``admin`` includes spelled out."""
    granted = frozenset(permissions)
    return ALL_PERMISSIONS if PermissionLevel.ADMIN in granted else granted
