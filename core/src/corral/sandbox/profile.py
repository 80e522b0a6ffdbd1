"""How strongly a sandbox isolates: everything, unless a test weakens it on purpose."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Profile:
    """Which layers hold.

    The default is the only profile that the CLI and the API offer. A weaker one is made by tests, to show that an
    attack which the default refuses does succeed without the layer; its name goes into every result.
    """

    #: Layers that the runner leaves out; see ``corral_runner.settings.LAYERS``.
    runner_layers_off: frozenset[str] = field(default_factory=frozenset)
    #: Namespaces and mounts that bubblewrap leaves out: ``network``, ``pid``, ``ipc``, ``system`` (the host's
    #: whole file system, writable, instead of the read-only selection).
    outer_layers_off: frozenset[str] = field(default_factory=frozenset)

    @property
    def weakened(self) -> tuple[str, ...]:
        return tuple(sorted(self.runner_layers_off | {f"outer-{name}" for name in self.outer_layers_off}))


DEFAULT_PROFILE = Profile()
