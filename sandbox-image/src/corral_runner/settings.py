"""What the runner is told once, before it serves anyone: how this sandbox isolates.

The owner of the sandbox sets it, never a task. The defaults are the strongest; a weaker value exists so that a
test can show an attack succeed without the layer, and is named in every result as ``weakened``.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

#: Every layer the runner itself can apply, in the order it applies them.
LAYERS = (
    "namespaces",
    "ceilings",
    "undumpable",
    "rlimits",
    "sampling",
    "capabilities",
    "landlock",
    "seccomp",
)

#: An operator that was gone for longer does not come back for the result; its task ends by then.
_LINGER_SECONDS = 900.0


class Settings:
    """Read from the first argument of the runner's command line, a JSON object."""

    __slots__ = (
        "bound_workspace",
        "descriptor",
        "file_systems",
        "linger_seconds",
        "listen",
        "maximum_idle_seconds",
        "off",
        "outer",
        "preload",
        "private_users",
        "readable",
        "refused",
        "resizable",
        "standard_streams",
        "walked",
        "weakened",
    )

    def __init__(self, values: "Mapping[str, Any]") -> None:
        #: Layers that are switched off.
        self.off: frozenset[str] = frozenset(values.get("off", ()))
        #: Layers that the backend put around the runner; named in ``ready`` beside the runner's own.
        self.outer: list[str] = list(values.get("outer", ()))
        #: Everything that is switched off here or around the runner; told in ``ready`` and in every result.
        self.weakened: list[str] = list(values.get("weakened", sorted(self.off)))
        #: Modules to import before the first execution.
        self.preload: list[str] = list(values.get("preload", ()))
        #: Directories beside the system's that a tool may read, such as the interpreter's.
        self.readable: list[str] = list(values.get("readable", ()))
        #: /workspace is a directory of the host, not a fresh file system of this sandbox.
        self.bound_workspace: bool = bool(values.get("boundWorkspace", False))
        #: The user namespace is this sandbox's alone, so the kernel counts its processes alone.
        self.private_users: bool = bool(values.get("privateUsers", False))
        #: Directories on file systems that are this sandbox's alone and have a size. A cell makes its own.
        self.file_systems: list[str] = list(values.get("fileSystems", ()))
        #: The runner may change the size of these: those of a cell.
        self.resizable = False
        #: Directories of this sandbox on file systems that are others' too, so that only a walk tells what is there.
        self.walked: list[str] = []
        #: Layers that the container around the runner refuses it; found out at start.
        self.refused: frozenset[str] = frozenset()
        #: Where to listen, if not on an inherited descriptor: ``host`` (else ``CORRAL_LISTEN_HOST``) and ``port``.
        self.listen: dict[str, Any] | None = values.get("listen")
        #: A listening runner whose execution has ended, and whose owner says nothing for so long, ends.
        self.linger_seconds = float(values.get("lingerSeconds", _LINGER_SECONDS))
        #: The same for one that nobody has given an execution; None to wait for ever.
        idle = values.get("maximumIdleSeconds")
        self.maximum_idle_seconds: float | None = None if idle is None else float(idle)
        #: Number of the inherited descriptor that leads to the owner.
        self.descriptor: int = int(values.get("descriptor", 3))
        #: Instead of that descriptor, requests come on standard input and frames go to standard output.
        self.standard_streams: bool = bool(values.get("standardStreams", False))
        unknown = self.off - set(LAYERS)
        if unknown:
            raise ValueError(f"off: {sorted(unknown)} are no layers; known are {LAYERS}")

    def holds(self, layer: str) -> bool:
        return layer not in self.off and layer not in self.refused
