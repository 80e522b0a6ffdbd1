"""What the gateway's account may do in a cluster, and why: one table, pure data.

``make generate`` writes the chart's Roles from it. It makes no pod and writes no status: what runs where
is the operator's business. What a caller may do is decided before, by the gateway.
"""

from collections.abc import Iterator
from enum import StrEnum

from corral.api import GROUP
from corral.cluster.grants import Grant
from corral.cluster.names import RUNNER_KEY_SECRET


class Scope(StrEnum):
    """Where something is granted, and which value of the chart switches it on."""

    #: Each namespace whose tasks are run: those of kubectl are audited, too.
    SERVED = "served"
    #: Namespaces of its callers' tasks; all, where each caller has one of its own.
    TASKS = "tasks"
    #: The same, with ``gateway.toolRegistration``.
    TOOLS = "tools"
    #: The same, with ``gateway.liveOutput``.
    PODS = "pods"
    #: The release's own namespace, with ``gateway.liveOutput``.
    RUNNER_KEY = "runnerKey"
    #: No namespace, with ``gateway.kubernetesTokens``.
    TOKENS = "tokens"


GRANTS: tuple[Grant[Scope], ...] = (
    Grant(
        Scope.SERVED,
        GROUP,
        ("agenttasks",),
        ("get", "list", "watch"),
        "What becomes of tasks: one watch answers everybody who waits.",
    ),
    Grant(Scope.SERVED, GROUP, ("tools",), ("get", "list", "watch"), "What there is to call."),
    Grant(
        Scope.TASKS,
        GROUP,
        ("agenttasks",),
        ("create", "patch"),
        "It makes its callers' tasks, and cancels them with a patch. It can write no status.",
    ),
    Grant(
        Scope.TOOLS,
        GROUP,
        ("tools",),
        ("create", "update", "delete"),
        "Callers who may register tools there. What a tool may do when it runs, the operator's policy says.",
    ),
    Grant(
        Scope.PODS,
        "",
        ("pods",),
        ("watch",),
        "Where a sandbox whose output is read listens. RBAC cannot limit a watch to a label.",
    ),
    Grant(
        Scope.RUNNER_KEY,
        "",
        ("secrets",),
        ("get",),
        "The key of the runners' tokens: with it output is read from sandboxes as it comes. No other Secret.",
        names=(RUNNER_KEY_SECRET,),
    ),
    Grant(
        Scope.TOKENS,
        "authentication.k8s.io",
        ("tokenreviews",),
        ("create",),
        "Whose a Kubernetes token is.",
    ),
    Grant(
        Scope.TOKENS,
        "authorization.k8s.io",
        ("subjectaccessreviews",),
        ("create",),
        "Whether its owner may do the same with AgentTasks by kubectl.",
    ),
)


def grants(scope: Scope) -> Iterator[Grant[Scope]]:
    """Return what is granted in a scope, in the order of the table."""
    return (grant for grant in GRANTS if grant.scope is scope)
