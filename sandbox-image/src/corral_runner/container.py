"""A runner that is the first process of a container: what it finds out about its room before it serves."""

from corral_runner import disk, landlock, layers, seccomp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    from corral_runner.settings import Settings


def prepare(settings: "Settings") -> None:
    """Complete the settings by what this container allows, and do ahead what every start would do."""
    settings.refused = layers.refused_by_container(settings)
    settings.file_systems, settings.walked = disk.own_and_shared(settings.file_systems)
    landlock.system_paths()
    notify = seccomp.notifications_available()
    networks: tuple[Literal["none", "open"], ...] = ("none", "open")
    for network in networks:
        for execute in (False, True):
            seccomp.program(network, execute=execute, notify=notify)
