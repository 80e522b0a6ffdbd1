"""What the operator's account may do in a cluster, and why: one table, pure data.

``make generate`` writes the chart's Roles from it; tests compare it with what a real API server grants. No line
is cluster-wide by itself: the chart binds the lines of ``SERVED`` in each served namespace, or in all of them
where it is told to serve all.

kopf itself needs no line. With ``settings.scanning.disabled`` it neither lists nor watches namespaces and
CustomResourceDefinitions (``kopf/_core/reactor/observation.py``: ``namespace_observer``, ``resource_observer``);
what kinds there are it reads from discovery, which every account may. Its events and its peering are off.
"""

from collections.abc import Iterator
from enum import StrEnum

from corral.api import GROUP
from corral.cluster.grants import Grant
from corral.cluster.names import RUNNER_KEY_SECRET
from corral_operator.names import LEASE, NETWORK_POLICY


class Scope(StrEnum):
    """In which namespaces something is granted."""

    #: Each namespace whose tasks are run.
    SERVED = "served"
    #: The operator's own.
    OWN = "own"
    #: Those in which tasks with secretRefs may use waiting sandboxes (``lateSecrets`` of the chart's values).
    LATE_SECRETS = "lateSecrets"


GRANTS: tuple[Grant[Scope], ...] = (
    # --- what it works on ---
    Grant(
        Scope.SERVED,
        GROUP,
        ("agenttasks",),
        ("get", "list", "watch", "delete"),
        "Tasks are its work. It deletes those whose ttlSecondsAfterFinished has passed.",
    ),
    Grant(
        Scope.SERVED,
        GROUP,
        ("agenttasks/status",),
        ("patch",),
        "Results go here. It can change no task's spec.",
    ),
    Grant(Scope.SERVED, GROUP, ("tools",), ("get", "list", "watch"), "What tasks call."),
    Grant(
        Scope.SERVED, GROUP, ("sandboxpools",), ("get", "list", "watch"), "How many sandboxes are to wait."
    ),
    Grant(Scope.SERVED, GROUP, ("sandboxpools/status",), ("patch",), "How many there are."),
    # --- sandboxes ---
    Grant(
        Scope.SERVED,
        "",
        ("pods",),
        ("get", "list", "watch", "create", "delete"),
        "Sandboxes. RBAC cannot limit a list to a label; what pods it may create, the admission policies limit.",
    ),
    Grant(
        Scope.SERVED,
        "",
        ("pods/resize",),
        ("patch",),
        "A waiting sandbox is given more CPU and memory in place.",
    ),
    Grant(
        Scope.SERVED,
        "",
        ("pods/log",),
        ("get",),
        "The output of images without a runner. A sandbox with one reports by itself.",
    ),
    Grant(
        Scope.SERVED,
        "networking.k8s.io",
        ("networkpolicies",),
        ("create",),
        "The default-deny of sandboxes must stand before the first. RBAC cannot limit a creation to a name.",
    ),
    Grant(
        Scope.SERVED,
        "networking.k8s.io",
        ("networkpolicies",),
        ("get", "patch"),
        "Somebody may have changed it.",
        names=(NETWORK_POLICY,),
    ),
    Grant(
        Scope.SERVED,
        "events.k8s.io",
        ("events",),
        ("create",),
        "What kubectl describe shows at a task.",
    ),
    # --- itself ---
    Grant(
        Scope.OWN,
        "coordination.k8s.io",
        ("leases",),
        ("create",),
        "One operator is the active one. RBAC cannot limit a creation to a name.",
    ),
    Grant(
        Scope.OWN,
        "coordination.k8s.io",
        ("leases",),
        ("get", "update"),
        "It takes and renews its Lease.",
        names=(LEASE,),
    ),
    Grant(
        Scope.OWN,
        "",
        ("secrets",),
        ("create",),
        "It makes the key of the runners' tokens at its first start. RBAC cannot limit a creation to a name.",
    ),
    Grant(
        Scope.OWN,
        "",
        ("secrets",),
        ("get",),
        "The key of the runners' tokens, and no other Secret.",
        names=(RUNNER_KEY_SECRET,),
    ),
    Grant(
        Scope.OWN,
        "",
        ("pods",),
        ("get", "create", "delete"),
        "The pod that proves at start that the cluster enforces NetworkPolicies.",
    ),
    Grant(
        Scope.OWN,
        "networking.k8s.io",
        ("networkpolicies",),
        ("create",),
        "The policy that this proof is about.",
    ),
    Grant(
        Scope.OWN,
        "networking.k8s.io",
        ("networkpolicies",),
        ("get", "patch"),
        "The same.",
        names=(NETWORK_POLICY,),
    ),
    # --- switched on by somebody who may ---
    Grant(
        Scope.LATE_SECRETS,
        "",
        ("secrets",),
        ("get",),
        "Values of secretRefs for a sandbox that already waits. Everywhere else only the kubelet reads them.",
    ),
)


def grants(scope: Scope) -> Iterator[Grant[Scope]]:
    """Return what is granted in a scope, in the order of the table."""
    return (grant for grant in GRANTS if grant.scope is scope)
