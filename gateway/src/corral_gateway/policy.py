"""What tasks through the gateway may do. Stricter than a laptop's: callers are not its owner.

One policy is everybody's; a caller's credential can be granted permissions beyond it, or be held to certain tools.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from http import HTTPStatus

from corral.api import ALL_PERMISSIONS, AgentTask, Step, Tool
from corral.policy import Policy, refused_use
from corral_gateway.identity.caller import EVERYTHING, Caller, Reach
from corral_gateway.problems import ProblemError
from corral_gateway.settings import Settings
from corral_gateway.tasks.maxima import maximum_limits
from corral_gateway.tasks.stamps import submission_of

#: As many different grants are remembered; most callers have none.
_POLICIES = 256
#: Says what a task may do, by its id; None: what everybody's may.
PolicyOf = Callable[[str], Policy | None]


def policy_of(settings: Settings, reach: Reach = EVERYTHING) -> Policy:
    """Return the rules that executions of such a caller are held against."""
    root = settings.workspace_root
    return Policy(
        permissions=ALL_PERMISSIONS,
        blocked_permissions=settings.blocked_permissions - reach.permissions,
        allowlist=reach.tools,
        # Here for defaults above them, which are lowered; a request above them is refused before (``tasks.maxima``).
        maximum_limits=maximum_limits(settings),
        # The gateway itself puts tasks there; callers may name no directory of the host (``tasks.host_access``).
        host_paths=() if root is None else (str(root),),
    )


class CallerPolicies:
    """A ``Guard``, and a ``TaskObserver``: knows the policies of tasks whose callers have one of their own."""

    def __init__(self, settings: Settings) -> None:
        self._policy_of = lru_cache(_POLICIES)(partial(policy_of, settings))
        self._of_task: dict[str, Policy] = {}

    def of(self, uid: str) -> Policy | None:
        """Return what a task may do; see ``PolicyOf``."""
        return self._of_task.get(uid)

    async def admit(self, task: AgentTask, tools: Sequence[Tool], caller: Caller) -> None:
        """Let a task through whose tools its caller may use; see ``Guard``."""
        policy = self._policy_of(caller.reach)
        there = {_hyphened(tool.name): tool for tool in tools}
        steps: list[Step | None] = [None] if task.spec.tool is not None else [*task.spec.steps]
        for step in steps:
            name = (task.spec.tool if step is None else step.tool) or ""
            tool = there.get(_hyphened(name))
            if tool is None:
                # Who runs it says that there is none; here it matters only that it is nothing that is allowed.
                _refuse_unlisted(name, policy)
                continue
            # All other rules, who runs it asks.
            refused = refused_use(policy, tool, task.spec, step)
            if refused is not None:
                raise ProblemError(
                    HTTPStatus.FORBIDDEN,
                    refused.reason.value,
                    refused.message,
                    remedy=f"have an admin {refused.how_to_grant}, for everybody or for a key of yours",
                )
        if caller.reach != EVERYTHING:
            self._of_task[task.metadata.uid or ""] = policy

    def withdrawn(self, task: AgentTask, caller: Caller) -> None:
        """See ``Guard``."""
        del caller
        self._of_task.pop(task.metadata.uid or "", None)

    def ended(self, task: AgentTask, caller: str, seconds: float) -> None:
        """See ``TaskObserver``."""
        del caller, seconds
        self._of_task.pop(submission_of(task), None)


def _refuse_unlisted(name: str, policy: Policy) -> None:
    listed = policy.allowlist
    if listed is not None and _hyphened(name) not in {_hyphened(other) for other in listed}:
        raise ProblemError(
            HTTPStatus.FORBIDDEN, "PermissionDenied", f"{name} is not on the list of allowed tools"
        )


def _hyphened(name: str) -> str:
    return name.replace("_", "-")
