"""Which layers this runner can put around a tool, as ``ready`` names them."""

import os

from corral_runner import cell, kernel, landlock, seccomp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral_runner.execution import Execution
    from corral_runner.settings import Settings

#: Exit status of the process that tries them, a bit for each that failed.
_TRIED = ("landlock", "seccomp-notifications", "seccomp")


def in_force(settings: "Settings") -> "list[str]":
    """Return the layers that hold."""
    layers = [*settings.outer]
    if settings.resizable:
        layers += [name for name in cell.NAMESPACE_LAYERS if name not in layers]
    if settings.holds("rlimits"):
        layers.append("rlimits")
    if settings.holds("seccomp") and seccomp.available():
        layers.append("seccomp")
    if settings.holds("landlock") and landlock.abi():
        layers.append("landlock")
    return layers


def unenforced(settings: "Settings", execution: "Execution") -> "str | None":
    """Say what a task asks that cannot be enforced here. Nothing runs with less than it asked for."""
    lacking = "which this kernel does not have ({}) or the container around this sandbox refuses"
    if _missing(settings, "seccomp", has=seccomp.available()):
        return f"every sandbox needs seccomp filters, {lacking.format('CONFIG_SECCOMP_FILTER')}"
    if not _missing(settings, "landlock", has=bool(landlock.abi())):
        return None
    needs = f"needs Landlock, {lacking.format('Linux 5.13, CONFIG_SECURITY_LANDLOCK')}"
    if execution.allowed_paths != ["."]:
        return f"allowedPaths {needs}"
    if not execution.may("write") and settings.bound_workspace:
        return f"a bound workspace without the write permission {needs}"
    return None


def _missing(settings: "Settings", layer: str, *, has: bool) -> bool:
    """Whether a layer is one that should hold and does not."""
    return layer not in settings.off and (layer in settings.refused or not has)


def refused_by_container(settings: "Settings") -> "frozenset[str]":
    """Try what a tool would take on, in a process of its own, and return what does not work here.

    A container's own filter may refuse calls that the kernel has, or have taken the one listener for notifications.
    """
    pid = os.fork()
    if pid == 0:
        os._exit(_try())
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    found = {name for bit, name in enumerate(_TRIED) if status < 0 or status & 1 << bit}
    # Where the user namespace is not the container's own, its ceilings are the host's, and not this runner's to set.
    try:
        if settings.private_users:
            cell.set_ceilings()
        else:
            found.add("ceilings")
    except OSError:
        found.add("ceilings")
    return frozenset(found - settings.off)


def _try() -> int:
    failed = 0
    try:
        kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
        landlock.restrict(landlock.abi(), read=(), write=("/",), execute=True)
    except (OSError, KeyError):  # no ABI 0 exists
        failed |= 1
    code = seccomp.program("none", execute=True, notify=True)
    try:
        seccomp.install(code, notify=True)
    except OSError:
        failed |= 2
        try:
            seccomp.install(seccomp.program("none", execute=True, notify=False), notify=False)
        except OSError:
            failed |= 4
    return failed
