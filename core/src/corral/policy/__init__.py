"""Who may run what, with how much: pure decisions over frozen values."""

from corral.policy.evaluation import evaluate, refused_use
from corral.policy.policy import LAPTOP_POLICY, Allowed, Policy, Refused

__all__ = ["LAPTOP_POLICY", "Allowed", "Policy", "Refused", "evaluate", "refused_use"]
