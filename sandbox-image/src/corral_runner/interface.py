"""What the runner and a built-in tool say to each other: one function, one context, three exceptions.

A built-in tool is a module ``corral_tools.NAME`` with a function ``run(arguments, context)``. It runs in a
process of its own inside the sandbox, its working directory is the workspace, its ``print`` is the task's
output, and what it returns (any JSON value) is the task's structured result.
"""

TYPE_CHECKING = False  # `typing` is an import of several milliseconds that every cold start would pay for
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, TypeAlias

    JSON: TypeAlias = "dict[str, JSON] | list[JSON] | str | int | float | bool | None"
    Run: TypeAlias = Callable[[Mapping[str, Any], "ToolContext"], Any]


class ToolContext:
    """What a tool may know of the sandbox it runs in."""

    __slots__ = ("_report", "allowed_paths", "output_limit_bytes", "workspace")

    def __init__(
        self,
        workspace: str,
        allowed_paths: "tuple[str, ...]" = (".",),
        output_limit_bytes: int = 1 << 20,
        report: "Callable[[float | None, str], None] | None" = None,
    ) -> None:
        #: Absolute path of the workspace; also the working directory.
        self.workspace = workspace
        #: Paths relative to the workspace that the tool may touch. Landlock enforces them where the kernel
        #: has it; a tool that checks first can name the path it refuses.
        self.allowed_paths = allowed_paths
        #: How many bytes the task may print in all; a tool that returns file content keeps well below.
        self.output_limit_bytes = output_limit_bytes
        self._report = report

    def progress(self, fraction: "float | None", message: str = "") -> None:
        """Tell the caller how far the work is.

        Args:
            fraction: 0.0 to 1.0, or None where the end cannot be foreseen.
            message: one line for people.
        """
        if self._report is not None:
            self._report(fraction, message)


class ToolFailure(Exception):  # noqa: N818 - the task's reason is ToolError; this is what a tool raises for it
    """The tool could not do what was asked. Ends the task with reason ``ToolError``.

    Where a limit is the cause (an ``OSError`` with ENOSPC or EFBIG, a ``MemoryError``), raise this *from* the
    original: the runner looks along the chain of causes and reports the limit's own reason instead.
    """

    def __init__(self, message: str, **details: "JSON") -> None:
        super().__init__(message)
        self.message = message
        self.details = details


class InvalidArgument(Exception):  # noqa: N818 - same
    """An argument that the input schema could not refuse. Ends the task with reason ``InvalidArguments``."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        #: Path of the argument, such as ``options.width`` or ``path``.
        self.field = field
        self.message = message


class PermissionRefused(Exception):  # noqa: N818 - same
    """The tool was asked for something its permissions or paths forbid: reason ``PermissionDenied``."""

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(message)
        #: The rule that forbids it, such as ``allowedPaths`` or ``workspace``.
        self.rule = rule
        self.message = message
