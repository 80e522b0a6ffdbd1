"""How large a sandbox is."""

from dataclasses import dataclass

from corral.api import ResolvedLimits


@dataclass(frozen=True, slots=True)
class SandboxSize:
    """What a sandbox can give: cores, and bytes."""

    cpu: float
    memory_bytes: int
    disk_bytes: int

    @classmethod
    def of(cls, limits: ResolvedLimits) -> "SandboxSize":
        """What an execution with these limits needs."""
        return cls(limits.cpu, limits.memory_bytes, limits.disk_bytes)

    def holds(self, other: "SandboxSize") -> bool:
        """Whether something of another size fits into one of this."""
        return (
            other.cpu <= self.cpu
            and other.memory_bytes <= self.memory_bytes
            and other.disk_bytes <= self.disk_bytes
        )
