"""What one ``start`` request asks for, checked field by field before anything of it happens."""

from corral_runner.limits import Limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

#: How a tool may be run; a request names exactly one.
_WAYS = ("builtin", "function", "command")
#: A cluster that takes longer to apply a policy is broken.
_LONGEST_REFUSAL_SECONDS = 300


class Malformed(ValueError):  # noqa: N818 - what the request is
    """A request that the protocol does not know; the text names the field."""


class Refusal:
    """A connection that must be refused before the tool starts."""

    __slots__ = ("host", "port", "within_seconds")

    def __init__(self, host: str, port: int, within_seconds: float) -> None:
        self.host = host
        self.port = port
        self.within_seconds = within_seconds


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
        "refused_first",
        "run",
        "secret_env",
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
        self.refused_first = _refusal(values.get("refusedFirst"), self.network)
        self.secret_env = _secret_names(values.get("secretEnv", []), self.env)
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


def _secret_names(value: "Any", env: "Mapping[str, str]") -> "list[str]":
    names = _texts(value, "execution.secretEnv")
    for name in names:
        if not name or "=" in name:
            raise Malformed(f"execution.secretEnv: {name[:100]!r} is no name of an environment variable")
        if name in env:
            raise Malformed(f"execution.secretEnv: {name[:100]!r} is in execution.env, too")
    return names


def _refusal(value: "Any", network: str) -> "Refusal | None":
    if value is None:
        return None
    if network != "open":
        raise Malformed("execution.refusedFirst is for network open alone")
    values = _object(value, "execution.refusedFirst")
    host = _text(values.get("host"), "execution.refusedFirst.host")
    _address(host)
    port: Any = values.get("port")
    within: Any = values.get("withinSeconds")
    if type(port) is not int or not 0 < port < 65536:
        raise Malformed("execution.refusedFirst.port is no port")
    if type(within) not in {int, float} or not 0 < within <= _LONGEST_REFUSAL_SECONDS:
        raise Malformed(
            f"execution.refusedFirst.withinSeconds is not above 0 and at most {_LONGEST_REFUSAL_SECONDS}"
        )
    return Refusal(host, port, within)


def _address(host: str) -> None:
    """Refuse a name: looking it up would take time, and need the network that is to be refused."""
    import _socket

    try:
        _socket.inet_pton(_socket.AF_INET6 if ":" in host else _socket.AF_INET, host)
    except OSError:
        raise Malformed("execution.refusedFirst.host is no IP address") from None


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
