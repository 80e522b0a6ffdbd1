"""Whether a task may run a tool, and with what. Pure: values in, a decision out."""

from pathlib import PurePosixPath

from corral.api import (
    DEFAULT_LIMITS,
    AgentTaskSpec,
    Network,
    PermissionLevel,
    ResolvedLimits,
    Step,
    Tool,
    expand_permissions,
)
from corral.policy.policy import Allowed, Policy, Refused
from corral.policy.rules import RULES, Question, allowlist, permissions


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
    question = Question(policy, tool, spec, step)
    for rule in RULES:
        refused = rule(question)
        if refused is not None:
            return refused
    allowed = expand_permissions(tool.spec.permissions) - {PermissionLevel.ADMIN, PermissionLevel.NETWORK}
    if question.wants_network:
        allowed |= {PermissionLevel.NETWORK}
    return Allowed(
        limits=_limits(question),
        permissions=allowed,
        allowed_paths=tuple(dict.fromkeys(str(PurePosixPath(path)) for path in spec.allowed_paths)),
        network=_network(question),
    )


def refused_use(policy: Policy, tool: Tool, spec: AgentTaskSpec, step: Step | None = None) -> Refused | None:
    """Decide only whether somebody may use a tool at all: what ``evaluate`` asks first, at a fraction of its cost.

    Returns:
        Why not; None: nothing stands against it so far.
    """
    question = Question(policy, tool, spec, step)
    return allowlist(question) or permissions(question)


def _limits(question: Question) -> ResolvedLimits:
    own, default = question.tool.spec.limits, DEFAULT_LIMITS
    if own is not None and own.default is not None:
        default = own.default.merged_over(default)
    if own is not None and own.maximum is not None:
        default = default.lowered_to(own.maximum)
    default = default.lowered_to(question.policy.maximum_limits)
    return ResolvedLimits.of(question.requested.merged_over(default))


def _network(question: Question) -> Network:
    asked, most = question.spec.network or Network(), question.tool.spec.network
    if not question.wants_network or most is None or asked.max_requests is not None:
        return asked
    return asked.model_copy(update={"max_requests": most.max_requests})
