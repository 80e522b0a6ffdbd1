"""Whether a task may run a tool, and with what. Pure: values in, a decision out."""

from collections.abc import Callable
from pathlib import PurePosixPath

from corral.api import (
    DEFAULT_LIMITS,
    AgentTaskSpec,
    Limits,
    Network,
    NetworkMode,
    PermissionLevel,
    Reason,
    ResolvedLimits,
    Step,
    Tool,
    expand_permissions,
)
from corral.policy.policy import Allowed, Policy, Refused

_Rule = Callable[[Policy, Tool, AgentTaskSpec, Step | None], Refused | None]


def evaluate(policy: Policy, tool: Tool, spec: AgentTaskSpec, step: Step | None = None) -> Allowed | Refused:
    """Decide on one execution.

    A request above a maximum is refused and never lowered. A default is no request: where it lies above a
    maximum, the maximum is taken.

    Args:
        policy: the rules.
        tool: what is to run.
        spec: the task.
        step: the step of a chain; its limits go before those of the task.
    """
    for rule in _RULES:
        refused = rule(policy, tool, spec, step)
        if refused is not None:
            return refused
    network = _network(tool, spec)
    permissions = expand_permissions(tool.spec.permissions) - {PermissionLevel.ADMIN}
    if network.mode is NetworkMode.NONE:
        permissions -= {PermissionLevel.NETWORK}
    else:
        permissions |= {PermissionLevel.NETWORK}
    return Allowed(
        limits=_limits(policy, tool, _requested(spec, step)),
        permissions=permissions,
        allowed_paths=tuple(dict.fromkeys(str(PurePosixPath(path)) for path in spec.allowed_paths)),
        network=network,
    )


def _allowlist(policy: Policy, tool: Tool, _spec: AgentTaskSpec, _step: Step | None) -> Refused | None:
    if policy.allowlist is None or _hyphened(tool.name) in {_hyphened(name) for name in policy.allowlist}:
        return None
    return _refused(
        "allowlist", f"{tool.name} is not on the list of allowed tools", f"add {tool.name} to the list"
    )


def _permissions(policy: Policy, tool: Tool, spec: AgentTaskSpec, _step: Step | None) -> Refused | None:
    needed = {*tool.spec.permissions}
    asks = {level: f"{tool.name} needs the permission {level}" for level in needed}
    if spec.network is not None and spec.network.mode is not NetworkMode.NONE:
        asks.setdefault(
            PermissionLevel.NETWORK, "the task asks for network, which needs the permission network"
        )
    if PermissionLevel.ADMIN in needed:
        included = expand_permissions(needed) - needed
        asks |= {level: f"{tool.name} needs admin, which includes {level}" for level in included}
    granted = expand_permissions(policy.permissions)
    for level in PermissionLevel:
        if level not in asks:
            continue
        if level in policy.blocked_permissions:
            return _refused("blockedPermissions", f"{asks[level]}, which is blocked", f"unblock {level}")
        if level not in granted:
            return _refused("permissions", f"{asks[level]}, which is not granted", f"grant {level}")
    return None


def _within_maximum(policy: Policy, tool: Tool, spec: AgentTaskSpec, step: Step | None) -> Refused | None:
    own = tool.spec.limits.maximum if tool.spec.limits is not None else None
    for asked, path in (
        (step and step.limits, f"spec.steps.{step and step.name}.limits"),
        (spec.limits, "spec.limits"),
    ):
        if not asked:
            continue
        for maximum, rule, whose in (
            (own, "tool.limits.maximum", f"the maximum of {tool.name}"),
            (policy.maximum_limits, "maximumLimits", "the policy's maximum"),
        ):
            if maximum is None:
                continue
            for name in asked.exceeds(maximum):
                wanted, most = _shown(asked, name), _shown(maximum, name)
                return _refused(
                    rule,
                    f"{path}.{name} asks for {wanted}, {whose} is {most}",
                    f"ask for at most {most}, or raise {whose}",
                    f"{path}.{name}",
                )
    return None


def _tool_network(_policy: Policy, tool: Tool, spec: AgentTaskSpec, _step: Step | None) -> Refused | None:
    asked, most = spec.network, tool.spec.network
    if asked is None or asked.mode is NetworkMode.NONE or most is None:
        return None
    field = "spec.network.allowedDomains"
    for position, domain in enumerate(asked.allowed_domains):
        if not any(_covers(allowed, domain) for allowed in most.allowed_domains):
            reaches = ", ".join(most.allowed_domains) or "nothing"
            return _refused(
                "tool.network",
                f"{field}[{position}] asks for {domain}, {tool.name} may reach {reaches}",
                f"add {domain} to the network of {tool.name}",
                f"{field}[{position}]",
            )
    if most.max_requests is not None and (asked.max_requests or 0) > most.max_requests:
        return _refused(
            "tool.network",
            f"spec.network.maxRequests asks for {asked.max_requests}, {tool.name} may make {most.max_requests}",
            f"ask for at most {most.max_requests}",
            "spec.network.maxRequests",
        )
    return None


def _paths(policy: Policy, _tool: Tool, spec: AgentTaskSpec, _step: Step | None) -> Refused | None:
    # The models refuse traversal already; whoever built a spec without validation ends here.
    for field, paths in (
        ("spec.allowedPaths", spec.allowed_paths),
        ("spec.files", [file.path for file in spec.files]),
        ("spec.outputs", spec.outputs),
    ):
        for position, path in enumerate(paths):
            if _escapes(path):
                where = f"{field}[{position}]"
                return _refused(
                    "workspace", f'{where}: "{path}" leads out of the workspace', "name a path inside", where
                )
    for position, path in enumerate(spec.allowed_paths):
        if not any(_below(path, allowed) for allowed in policy.allowed_paths):
            where = f"spec.allowedPaths[{position}]"
            allowed_text = ", ".join(policy.allowed_paths) or "none"
            return _refused(
                "allowedPaths",
                f'{where}: "{path}" is not below the allowed paths ({allowed_text})',
                f'add "{path}" to the allowed paths',
                where,
            )
    return None


def _host_path(policy: Policy, _tool: Tool, spec: AgentTaskSpec, _step: Step | None) -> Refused | None:
    path = spec.workspace.host_path if spec.workspace is not None else None
    if path is None:
        return None
    where = "spec.workspace.hostPath"
    if not policy.host_paths:
        return _refused(
            "hostPaths", f"{where}: directories of the host are not allowed here", "allow it", where
        )
    if "/" in policy.host_paths:
        return None
    if _escapes(path.lstrip("/")) or not any(
        path.startswith("/") and _below(path, top) for top in policy.host_paths
    ):
        allowed = ", ".join(policy.host_paths)
        return _refused("hostPaths", f'{where}: "{path}" is not below {allowed}', f'allow "{path}"', where)
    return None


_RULES: tuple[_Rule, ...] = (_allowlist, _permissions, _tool_network, _within_maximum, _paths, _host_path)


def _refused(rule: str, message: str, how_to_grant: str, field: str | None = None) -> Refused:
    return Refused(Reason.PERMISSION_DENIED, rule, message, how_to_grant, field)


def _requested(spec: AgentTaskSpec, step: Step | None) -> Limits:
    requested = spec.limits or Limits()
    return requested if step is None or step.limits is None else step.limits.merged_over(requested)


def _limits(policy: Policy, tool: Tool, requested: Limits) -> ResolvedLimits:
    own = tool.spec.limits
    default = DEFAULT_LIMITS
    if own is not None and own.default is not None:
        default = own.default.merged_over(default)
    if own is not None and own.maximum is not None:
        default = default.lowered_to(own.maximum)
    return ResolvedLimits.of(requested.merged_over(default.lowered_to(policy.maximum_limits)))


def _shown(limits: Limits, wire_name: str) -> str:
    return str(limits.to_wire()[wire_name])


def _network(tool: Tool, spec: AgentTaskSpec) -> Network:
    asked, most = spec.network or Network(), tool.spec.network
    if asked.mode is NetworkMode.NONE or most is None or asked.max_requests is not None:
        return asked
    return asked.model_copy(update={"max_requests": most.max_requests})


def _covers(allowed: str, domain: str) -> bool:
    return domain == allowed or (allowed.startswith("*.") and domain.removeprefix("*").endswith(allowed[1:]))


def _hyphened(name: str) -> str:
    return name.replace("_", "-")


def _escapes(path: str) -> bool:
    return path.startswith("/") or "\0" in path or ".." in path.split("/")


def _below(path: str, top: str) -> bool:
    return PurePosixPath(path).is_relative_to(PurePosixPath(top)) if top != "." else not path.startswith("/")
