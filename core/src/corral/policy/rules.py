"""The rules, each a pure function that refuses or has nothing to say."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath

from corral.api import (
    AgentTaskSpec,
    Limits,
    NetworkMode,
    PermissionLevel,
    Reason,
    Step,
    Tool,
    expand_permissions,
)
from corral.policy.policy import Policy, Refused


@dataclass(frozen=True, slots=True)
class Question:
    """May this task run this tool?"""

    policy: Policy
    tool: Tool
    spec: AgentTaskSpec
    step: Step | None = None

    @property
    def requested(self) -> Limits:
        """What the task asks for; a step goes before the task."""
        requested = self.spec.limits or Limits()
        if self.step is None or self.step.limits is None:
            return requested
        return self.step.limits.merged_over(requested)

    @property
    def wants_network(self) -> bool:
        """The task itself asks for network; a tool cannot."""
        return self.spec.network is not None and self.spec.network.mode is not NetworkMode.NONE


def allowlist(question: Question) -> Refused | None:
    """Only what is on the list may run, where there is a list."""
    name, allowed = question.tool.name, question.policy.allowlist
    if allowed is None or _hyphened(name) in {_hyphened(other) for other in allowed}:
        return None
    return _refused("allowlist", f"{name} is not on the list of allowed tools", f"add {name} to the list")


def permissions(question: Question) -> Refused | None:
    """All that the tool needs must be granted and not blocked."""
    policy, name = question.policy, question.tool.name
    needed = frozenset(question.tool.spec.permissions)
    asks = {level: f"{name} needs the permission {level}" for level in needed}
    if question.wants_network:
        asks.setdefault(PermissionLevel.NETWORK, "the task asks for the network")
    for level in expand_permissions(needed):
        asks.setdefault(level, f"{name} needs admin, which includes {level}")
    granted = expand_permissions(policy.permissions)
    for level in PermissionLevel:
        if level in asks and level in policy.blocked_permissions:
            return _refused("blockedPermissions", f"{asks[level]}, which is blocked", f"unblock {level}")
        if level in asks and level not in granted:
            return _refused("permissions", f"{asks[level]}, which is not granted", f"grant {level}")
    return None


def maximum_limits(question: Question) -> Refused | None:
    """A request above a maximum is refused, never lowered."""
    tool, requested = question.tool, question.requested
    own = tool.spec.limits.maximum if tool.spec.limits is not None else None
    for maximum, rule, whose in (
        (own, "tool.limits.maximum", f"the maximum of {tool.name}"),
        (question.policy.maximum_limits, "maximumLimits", "the policy's maximum"),
    ):
        over = requested.exceeds(maximum) if maximum is not None else []
        if maximum is not None and over:
            wanted, most = requested.to_wire()[over[0]], maximum.to_wire()[over[0]]
            field = f"{_limits_path(question, over[0])}.{over[0]}"
            message = f"{field} asks for {wanted}, {whose} is {most}"
            return _refused(rule, message, f"ask for at most {most}, or raise {whose}", field)
    return None


def tool_network(question: Question) -> Refused | None:
    """A task may reach no more than its tool is made for."""
    asked, most, name = question.spec.network, question.tool.spec.network, question.tool.name
    if asked is None or most is None or not question.wants_network:
        return None
    for position, domain in enumerate(asked.allowed_domains):
        if not any(_covers(allowed, domain) for allowed in most.allowed_domains):
            field = f"spec.network.allowedDomains[{position}]"
            reaches = ", ".join(most.allowed_domains) or "nothing"
            message = f"{field} asks for {domain}, {name} may reach {reaches}"
            return _refused("tool.network", message, f"add {domain} to the network of {name}", field)
    if most.max_requests is not None and (asked.max_requests or 0) > most.max_requests:
        field = "spec.network.maxRequests"
        message = f"{field} asks for {asked.max_requests}, {name} may make {most.max_requests}"
        return _refused("tool.network", message, f"ask for at most {most.max_requests}", field)
    return None


def inside_workspace(question: Question) -> Refused | None:
    """No path leads out. The models say so too; a spec that was built without validation ends here."""
    spec = question.spec
    for field, paths in (
        ("spec.allowedPaths", spec.allowed_paths),
        ("spec.files", tuple(file.path for file in spec.files)),
        ("spec.outputs", spec.outputs),
    ):
        for position, path in enumerate(paths):
            if _escapes(path):
                where = f"{field}[{position}]"
                message = f'{where}: "{path}" leads out of the workspace'
                return _refused("workspace", message, "name a path inside of it", where)
    return None


def allowed_paths(question: Question) -> Refused | None:
    """A task may touch what the policy allows of a workspace."""
    allowed = question.policy.allowed_paths
    for position, path in enumerate(question.spec.allowed_paths):
        if not any(_below(path, top) for top in allowed):
            where = f"spec.allowedPaths[{position}]"
            message = f'{where}: "{path}" is not below {", ".join(allowed) or "any allowed path"}'
            return _refused("allowedPaths", message, f'add "{path}" to the allowed paths', where)
    return None


def host_path(question: Question) -> Refused | None:
    """A task may work in a directory of the host only below those that the policy names."""
    workspace, tops = question.spec.workspace, question.policy.host_paths
    if workspace is None or workspace.host_path is None or "/" in tops:
        return None
    path, where = workspace.host_path, "spec.workspace.hostPath"
    absolute = path.startswith("/") and not _escapes(path.lstrip("/"))
    if absolute and any(_below(path, top) for top in tops):
        return None
    message = f'{where}: "{path}" is not below {", ".join(tops) or "any allowed directory of the host"}'
    return _refused("hostPaths", message, f'add "{path}" to the host paths', where)


#: In the order in which they are asked: what can never be comes before what could be had in part.
RULES: tuple[Callable[[Question], Refused | None], ...] = (
    allowlist,
    permissions,
    tool_network,
    maximum_limits,
    inside_workspace,
    allowed_paths,
    host_path,
)


def _refused(rule: str, message: str, how_to_grant: str, field: str | None = None) -> Refused:
    return Refused(Reason.PERMISSION_DENIED, rule, message, how_to_grant, field)


def _limits_path(question: Question, wire_name: str) -> str:
    step = question.step
    if step is None or step.limits is None or wire_name not in step.limits.to_wire():
        return "spec.limits"
    return f"spec.steps[{question.spec.steps.index(step)}].limits"


def _covers(allowed: str, domain: str) -> bool:
    return domain == allowed or (allowed.startswith("*.") and domain.removeprefix("*").endswith(allowed[1:]))


def _hyphened(name: str) -> str:
    return name.replace("_", "-")


def _escapes(path: str) -> bool:
    return path.startswith("/") or "\0" in path or ".." in path.split("/")


def _below(path: str, top: str) -> bool:
    return PurePosixPath(path).is_relative_to(PurePosixPath(top))
