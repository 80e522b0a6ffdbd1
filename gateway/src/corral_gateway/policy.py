"""What any task through the gateway may do, whoever sends it. Stricter than a laptop's: callers are not its owner."""

from corral.api import ALL_PERMISSIONS
from corral.policy import Policy
from corral_gateway.settings import Settings


def policy_of(settings: Settings) -> Policy:
    """Return the rules that every execution is held against."""
    root = settings.workspace_root
    return Policy(
        permissions=ALL_PERMISSIONS,
        blocked_permissions=settings.blocked_permissions,
        # The gateway itself puts tasks there; callers may name no directory of the host (``tasks.host_access``).
        host_paths=() if root is None else (str(root),),
    )
