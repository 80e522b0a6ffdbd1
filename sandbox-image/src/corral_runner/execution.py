"""What one ``start`` request asks for, checked field by field before anything of it happens."""

from corral_runner.limits import Limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

#: How a tool may be run; a request names exactly one.
_WAYS = ("builtin", "function", "command")


class Malformed(ValueError):  # noqa: N818 - what the request is
    """A request that the protocol does not know; the text names the field."""


class Execution:
    """Fields, shapes and units as in docs/runner-protocol.md.

    Raises:
        Malformed: a field is missing or is not what the protocol says; the text names it.
    """

    __slots__ = (
        "allowed_paths",
        "arguments",
        "env",
        "id",
        "limits",
        "network",
        "outputs",
        "outputs_limit_bytes",
        "permissions",
        "run",
    )

    def __init__(self, request: "Any") -> None:
        values = _object(request, "execution")
        self.id = _text(values.get("id"), "execution.id")
        self.run = _run(_object(values.get("run"), "execution.run"))
        self.arguments: dict[str, Any] = _object(values.get("arguments", {}), "execution.arguments")
        self.limits = Limits(_object(values.get("limits", {}), "execution.limits"))
        self.env = _environment(_object(values.get("env", {}), "execution.env"))
        self.network = _text(values.get("network", "none"), "execution.network")
        if self.network not in {"none", "open"}:
            raise Malformed("execution.network is neither none nor open")
        self.allowed_paths = _texts(values.get("allowedPaths", ["."]), "execution.allowedPaths")
        self.permissions = _texts(values.get("permissions", ["read"]), "execution.permissions")
        self.outputs = _texts(values.get("outputs", []), "execution.outputs")
        self.outputs_limit_bytes = values.get("outputsLimitBytes", 16 << 20)
        if type(self.outputs_limit_bytes) is not int or self.outputs_limit_bytes < 0:
            raise Malformed("execution.outputsLimitBytes is no number of bytes")

    def may(self, permission: str) -> bool:
        return permission in self.permissions or "admin" in self.permissions


def owner_of(request: "Mapping[str, Any]") -> "tuple[str, int]":
    """Read whom a ``start`` request is for.

    Raises:
        Malformed: the request does not say.
    """
    owner = _object(request.get("owner"), "owner")
    attempt = owner.get("attempt")
    if type(attempt) is not int:
        raise Malformed("owner.attempt is no whole number")
    return _text(owner.get("uid"), "owner.uid"), attempt


def _run(run: "dict[str, Any]") -> "dict[str, Any]":
    ways = [way for way in _WAYS if way in run]
    if len(ways) != 1:
        raise Malformed(f"execution.run names {len(ways)} of {', '.join(_WAYS)}, not one")
    if ways == ["builtin"]:
        _text(run["builtin"], "execution.run.builtin")
    elif ways == ["function"]:
        function = _object(run["function"], "execution.run.function")
        _text(function.get("code"), "execution.run.function.code")
        _text(function.get("entrypoint", "main"), "execution.run.function.entrypoint")
    elif not _texts(run["command"], "execution.run.command"):
        raise Malformed("execution.run.command is empty")
    if run.get("stdin") is not None:
        _text(run["stdin"], "execution.run.stdin", may_hold_nul=True)
    return run


def _environment(values: "dict[str, Any]") -> "dict[str, str]":
    for name, value in values.items():
        _text(value, f"execution.env.{name[:100]}")
        if not name or "=" in name or "\0" in name:
            raise Malformed(f"execution.env: {name[:100]!r} is no name of an environment variable")
    return values


def _object(value: "Any", field: str) -> "dict[str, Any]":
    if not isinstance(value, dict):
        raise Malformed(f"{field} is no object")
    return value


def _text(value: "Any", field: str, *, may_hold_nul: bool = False) -> str:
    if not isinstance(value, str):
        raise Malformed(f"{field} is no string")
    if "\0" in value and not may_hold_nul:
        raise Malformed(f"{field} holds a NUL character")
    return value


def _texts(value: "Any", field: str) -> "list[str]":
    if not isinstance(value, list):
        raise Malformed(f"{field} is no list")
    return [_text(item, f"{field}[{index}]") for index, item in enumerate(value)]
