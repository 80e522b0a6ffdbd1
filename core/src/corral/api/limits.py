"""What one execution may use."""

from dataclasses import dataclass
from typing import Annotated, Any, Self, TypeVar

from pydantic import Field

from corral.api.duration import Duration, parse_duration
from corral.api.model import ApiModel, Int
from corral.api.quantity import Quantity, parse_bytes, parse_cpu


class Limits(ApiModel):
    """What one execution may use at most. A field that is absent takes the tool's default, then Corral's."""

    cpu: Annotated[str, Quantity("cpu", "64")] | None = Field(
        None,
        description='CPU cores at once, a rate: 2, "1.5" or 500m. Above it the tool is slowed, not ended.',
    )
    cpu_time: Duration | None = Field(
        None,
        description="CPU time in all, over all processes. Using it up ends the tool with reason CPULimit.",
    )
    memory: Annotated[str, Quantity("bytes", "64Gi")] | None = Field(
        None,
        description="Memory of all processes together. Reaching it ends the tool with reason OutOfMemory.",
    )
    processes: Annotated[Int, Field(ge=1, le=4096)] | None = Field(
        None, description="Processes and threads at once. Reaching it ends the tool with reason ProcessLimit."
    )
    disk: Annotated[str, Quantity("bytes", "64Gi")] | None = Field(
        None,
        description="Workspace, /tmp and /dev/shm together. Filling it ends the tool with reason DiskLimit.",
    )
    file_size: Annotated[str, Quantity("bytes", "64Gi")] | None = Field(
        None, description="The largest single file. Growing one beyond it has reason FileSizeLimit."
    )
    open_files: Annotated[Int, Field(ge=8, le=65536)] | None = Field(
        None, description="File descriptors that each process may have open at once."
    )
    output: Annotated[str, Quantity("bytes", "64Mi")] | None = Field(
        None, description="Bytes the tool may print, stdout and stderr together. More has reason OutputLimit."
    )
    timeout: Duration | None = Field(
        None,
        description="Wall-clock time from the start of the tool. Passing it has reason DeadlineExceeded.",
    )
    idle_timeout: Duration | None = Field(
        None,
        description="Longest time without output or reported progress; reason IdleTimeout. Absent: any.",
    )

    def merged_over(self, base: "Limits") -> "Limits":
        """Return these limits, with those of ``base`` where a field is absent here."""
        return Limits.model_construct(
            **{
                name: mine if (mine := getattr(self, name)) is not None else getattr(base, name)
                for name in _FIELDS
            }
        )

    def exceeds(self, maximum: "Limits") -> list[str]:
        """Return the wire names of the fields that ask for more than ``maximum`` gives, in declared order.

        A field that is absent on either side asks for nothing and bounds nothing.
        """
        return [
            _WIRE_NAMES[name]
            for name in _FIELDS
            if (mine := self.amount(name)) is not None
            and (most := maximum.amount(name)) is not None
            and mine > most
        ]

    def amount(self, name: str) -> float | None:
        """Return one field, by its Python name, as a plain number: cores, seconds, bytes or a count."""
        value = getattr(self, name)
        return value if value is None or isinstance(value, int) else _PARSERS[name](value)

    def lowered_to(self, maximum: "Limits") -> "Limits":
        """Return these limits with no field above ``maximum``. For defaults; a request is refused instead."""
        over = set(self.exceeds(maximum))
        return Limits.model_construct(
            **{name: getattr(maximum if _WIRE_NAMES[name] in over else self, name) for name in _FIELDS}
        )


_PARSERS = {
    "cpu": parse_cpu,
    "cpu_time": parse_duration,
    "memory": parse_bytes,
    "disk": parse_bytes,
    "file_size": parse_bytes,
    "output": parse_bytes,
    "timeout": parse_duration,
    "idle_timeout": parse_duration,
}
_FIELDS = tuple(Limits.model_fields)
_WIRE_NAMES = {name: str(field.alias) for name, field in Limits.model_fields.items()}

#: What a task gets that asks for nothing: enough for a script, little enough for fifty at once on a laptop.
DEFAULT_LIMITS = Limits.model_construct(
    cpu="1",
    cpu_time="60s",
    memory="512Mi",
    processes=64,
    disk="128Mi",
    file_size="64Mi",
    open_files=256,
    output="1Mi",
    timeout="60s",
    idle_timeout=None,
)

#: What a manifest may ask for at most, wherever it runs. A policy or a tool may set less.
MAXIMUM_LIMITS = Limits.model_construct(
    cpu="64",
    cpu_time="24h",
    memory="64Gi",
    processes=4096,
    disk="64Gi",
    file_size="64Gi",
    open_files=65536,
    output="64Mi",
    timeout="24h",
    idle_timeout=None,
)


@dataclass(frozen=True, slots=True)
class ResolvedLimits:
    """Limits as plain numbers, every default filled in: what a backend enforces.

    Units as in docs/runner-protocol.md, `limits`.
    """

    cpu: float
    cpu_seconds: float
    memory_bytes: int
    processes: int
    disk_bytes: int
    file_size_bytes: int
    open_files: int
    output_bytes: int
    wall_seconds: float
    idle_seconds: float | None = None

    @classmethod
    def of(cls, limits: Limits) -> Self:
        """Resolve limits; what is absent takes ``DEFAULT_LIMITS``."""
        full = limits.merged_over(DEFAULT_LIMITS)
        return cls(
            cpu=parse_cpu(_given(full.cpu)),
            cpu_seconds=parse_duration(_given(full.cpu_time)),
            memory_bytes=parse_bytes(_given(full.memory)),
            processes=_given(full.processes),
            disk_bytes=parse_bytes(_given(full.disk)),
            file_size_bytes=parse_bytes(_given(full.file_size)),
            open_files=_given(full.open_files),
            output_bytes=parse_bytes(_given(full.output)),
            wall_seconds=parse_duration(_given(full.timeout)),
            idle_seconds=None if full.idle_timeout is None else parse_duration(full.idle_timeout),
        )

    def to_runner(self) -> dict[str, Any]:
        """Return the ``limits`` object of the runner's ``start`` request."""
        limits: dict[str, Any] = {
            "cpu": self.cpu,
            "cpuSeconds": self.cpu_seconds,
            "memoryBytes": self.memory_bytes,
            "processes": self.processes,
            "diskBytes": self.disk_bytes,
            "fileSizeBytes": self.file_size_bytes,
            "openFiles": self.open_files,
            "outputBytes": self.output_bytes,
            "wallSeconds": self.wall_seconds,
        }
        if self.idle_seconds is not None:
            limits["idleSeconds"] = self.idle_seconds
        return limits


_T = TypeVar("_T")


def _given(value: _T | None) -> _T:
    assert value is not None  # DEFAULT_LIMITS has them all
    return value
