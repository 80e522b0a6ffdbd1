"""How strongly a sandbox isolates: everything, unless a test weakens it on purpose."""

from dataclasses import dataclass, field

from corral_runner.settings import LAYERS

#: What bubblewrap gives, as its ``--unshare-…`` options name it, and the file system.
OUTER_LAYERS = frozenset({"user", "pid", "net", "ipc", "uts", "cgroup", "system"})


@dataclass(frozen=True)
class Profile:
    """Which layers hold.

    The default is the only profile that the CLI and the API offer. A weaker one is made by tests, to show that an
    attack which the default refuses does succeed without the layer; its name goes into every result.
    """

    #: Layers that the runner leaves out; see ``corral_runner.settings.LAYERS``.
    runner_layers_off: frozenset[str] = field(default_factory=frozenset)
    #: Namespaces and mounts that bubblewrap leaves out; see ``OUTER_LAYERS``. Without ``system`` the sandbox has the
    #: host's whole file system, writable, instead of the read-only selection.
    outer_layers_off: frozenset[str] = field(default_factory=frozenset)

    def __post_init__(self) -> None:
        """Refuse what would weaken nothing: a test with it would prove nothing.

        Raises:
            ValueError: a name is no layer.
        """
        unknown = (self.runner_layers_off - set(LAYERS)) | (self.outer_layers_off - OUTER_LAYERS)
        if unknown:
            raise ValueError(
                f"{sorted(unknown)} are no layers; known are {LAYERS} and {sorted(OUTER_LAYERS)}"
            )

    @property
    def weakened(self) -> tuple[str, ...]:
        return tuple(sorted(self.runner_layers_off | {f"outer-{name}" for name in self.outer_layers_off}))


DEFAULT_PROFILE = Profile()
