"""The policy that closes sandbox pods: they reach nothing, and only their owners reach them."""

from typing import Any

from corral.cluster.names import RUNNER_PORT
from corral_operator.names import MANAGED_BY, NETWORK_POLICY, SANDBOX_LABEL
from corral_operator.settings import Settings

#: Labels of the operator's own pods, as the chart sets them.
OPERATOR_LABELS = {"app.kubernetes.io/name": "corral", "app.kubernetes.io/component": "operator"}


def network_policy(namespace: str, settings: Settings) -> dict[str, Any]:
    """Return the policy of a namespace.

    It only ever adds up with others: whoever may write NetworkPolicies there can allow more, nobody less.
    """
    sources = [OPERATOR_LABELS, *(_labels(selector) for selector in settings.runner_sources)]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": NETWORK_POLICY, "namespace": namespace, "labels": dict(MANAGED_BY)},
        "spec": {
            "podSelector": {"matchLabels": {SANDBOX_LABEL: "true"}},
            # Egress without a rule: nothing. An empty list would say the same, but the API server does not keep it, and
            # the policy would never be found to be as it should.
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [
                {
                    "from": [
                        {
                            # The API server sets this label and nobody can change it; a label of ours could be copied.
                            "namespaceSelector": {
                                "matchLabels": {"kubernetes.io/metadata.name": settings.operator_namespace}
                            },
                            "podSelector": {"matchLabels": dict(labels)},
                        }
                        for labels in sources
                    ],
                    "ports": [{"protocol": "TCP", "port": RUNNER_PORT}],
                }
            ],
        },
    }


def _labels(selector: str) -> dict[str, str]:
    """Parse ``key=value`` or several of them joined by commas: a pod must have all."""
    labels = {}
    for part in selector.split(","):
        key, equals, value = part.strip().partition("=")
        # An empty selector would match every pod of the namespace.
        if not equals or not key or not value:
            raise ValueError(f"runner_sources: expected key=value, not {selector!r}")
        labels[key] = value
    return labels
