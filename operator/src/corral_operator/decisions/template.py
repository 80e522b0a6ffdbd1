"""What a pool's sandboxes are, as far as decisions compare it."""

from corral.api import Limits, ResolvedLimits, SandboxPoolSpec
from corral_operator.decisions.sizes import SandboxSize


def pool_size(spec: SandboxPoolSpec) -> SandboxSize:
    """Return what each sandbox of a pool can give; what is absent is what a task gets that asks for nothing."""
    given = spec.resources
    if given is None:
        return SandboxSize.of(ResolvedLimits.of(Limits()))
    return SandboxSize.of(ResolvedLimits.of(Limits(cpu=given.cpu, memory=given.memory, disk=given.disk)))


def same_kind(template: str, other: str) -> bool:
    """Whether sandboxes of two templates serve the same tasks: see ``builders.template.template_hash``."""
    return template.partition("-")[0] == other.partition("-")[0]
