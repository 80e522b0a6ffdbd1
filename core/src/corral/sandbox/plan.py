"""From a task to the request of one execution: pure, and the same for every backend.

Nothing starts for a task that is refused here: an unknown tool, wrong arguments, a missing permission, a limit
above the maximum, or something that the backend cannot give.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corral.api import (
    AgentTaskSpec,
    CommandRun,
    ExecutionError,
    NetworkMode,
    Problem,
    Reason,
    Reference,
    ReferenceProblem,
    Step,
    Tool,
    resolve,
    walk_path,
)
from corral.catalogue import Catalogue, ToolNotFoundError, validate_arguments, with_defaults
from corral.policy import Policy, Refused, evaluate
from corral.sandbox.port import ExecutionRequest, Owner, SandboxNeeds


@dataclass(frozen=True, slots=True)
class Call:
    """One tool call of a task: the task's own, or a step's with its references resolved."""

    name: str
    tool: str
    arguments: Mapping[str, Any]
    spec: AgentTaskSpec
    step: Step | None = None


@dataclass(frozen=True, slots=True)
class Planned:
    """What will be executed, and the sandbox it needs."""

    request: ExecutionRequest
    needs: SandboxNeeds


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why nothing will be executed."""

    reason: Reason
    message: str
    error: ExecutionError


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a backend can give beyond running a tool with nothing around it."""

    host_workspace: bool = False
    images: bool = False
    network_allowlist: bool = False
    runtime_classes: bool = False
    #: Files that a gateway keeps in its object store.
    artifacts: bool = False


#: Returns what is wrong with the arguments of a call of a tool.
Check = Callable[[Tool, Mapping[str, Any]], Sequence[Problem]]
#: What the embedded backend can give.
EMBEDDED = Abilities(host_workspace=True)
#: What the Docker backend can give; whether the daemon is near enough for a workspace, it finds out itself.
DOCKER = Abilities(host_workspace=True, images=True)


def plan(
    call: Call,
    owner: Owner,
    *,
    catalogue: Catalogue,
    policy: Policy,
    secrets: Mapping[str, str],
    abilities: Abilities = EMBEDDED,
    check: Check = validate_arguments,
) -> Planned | Refusal:
    """Decide whether and how a call is executed.

    Args:
        call: what is asked.
        owner: for whom.
        catalogue: the tools there are.
        policy: what is allowed.
        secrets: environment variables that come from secrets, by name.
        abilities: of the backend.
        check: says what is wrong with the arguments, the defaults filled in.
    """
    try:
        tool = catalogue.get(call.tool)
    except ToolNotFoundError as error:
        return _refusal(Reason.TOOL_NOT_FOUND, str(error), field="tool")
    arguments = with_defaults(tool, call.arguments)
    problems = check(tool, arguments)
    if problems:
        return _invalid(problems)
    unsupported = _unsupported(call.spec, tool, abilities)
    if unsupported is not None:
        return unsupported
    decision = evaluate(policy, tool, call.spec, step=call.step)
    if isinstance(decision, Refused):
        message = f"{decision.message}; to grant it, {decision.how_to_grant}"
        return _refusal(decision.reason, message, rule=decision.rule, field=decision.field)
    try:
        run = _run(tool, arguments)
    except ReferenceProblem as problem:
        return _refusal(Reason.INVALID_ARGUMENTS, problem.message)
    spec, command = call.spec, tool.spec.run.command
    image = None if command is None else command.image
    workspace = spec.workspace.host_path if spec.workspace is not None else None
    return Planned(
        ExecutionRequest(
            id=call.name,
            owner=owner,
            run=run,
            arguments=arguments,
            limits=decision.limits,
            env={**{variable.name: variable.value for variable in spec.env}, **secrets},
            permissions=tuple(sorted(decision.permissions)),
            allowed_paths=decision.allowed_paths,
            outputs=spec.outputs,
        ),
        SandboxNeeds(
            disk_bytes=decision.limits.disk_bytes,
            workspace=None if workspace is None else Path(workspace).resolve(),
            workspace_read_only=spec.workspace is not None and spec.workspace.read_only,
            image=image,
            plain=image is not None and command is not None and not command.has_runner,
        ),
    )


def _run(tool: Tool, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Say how the runner runs the tool, with the arguments put into a command's places."""
    run = tool.spec.run
    if run.builtin is not None:
        return {"builtin": run.builtin}
    if run.function is not None:
        function = {"code": run.function.code, "entrypoint": run.function.entrypoint}
        if run.function.allowed_imports is not None:
            function["allowedImports"] = list(run.function.allowed_imports)  # type: ignore[assignment]
        return {"function": function}
    assert run.command is not None  # the model has exactly one of three
    return _command(run.command, arguments)


def _command(command: CommandRun, arguments: Mapping[str, Any]) -> dict[str, Any]:
    def lookup(reference: Reference) -> Any:
        # An argument that the schema does not require and the call does not give is an empty word.
        if reference.name not in arguments:
            return ""
        return walk_path(arguments[reference.name], reference, list(reference.path))

    words = resolve(list(command.argv), lookup, root="arguments")
    run: dict[str, Any] = {
        "command": [word if isinstance(word, str) else _word(word) for word in words],
        "resultFormat": command.result_format.value.lower(),
    }
    if command.stdin is not None:
        text = resolve(command.stdin, lookup, root="arguments")
        run["stdin"] = text if isinstance(text, str) else _word(text)
    return run


def _word(value: Any) -> str:
    import json

    return json.dumps(value, ensure_ascii=False)


def _unsupported(spec: AgentTaskSpec, tool: Tool, abilities: Abilities) -> Refusal | None:
    network = spec.network
    if network is not None and network.mode is not NetworkMode.NONE and not abilities.network_allowlist:
        return _refusal(
            Reason.UNSUPPORTED,
            "this backend gives no network: a domain allowlist needs the egress proxy of a cluster. "
            "Run the task there, or remove spec.network",
            field="spec.network.mode",
        )
    command = tool.spec.run.command
    if command is not None and command.image is not None and not abilities.images:
        return _refusal(
            Reason.UNSUPPORTED,
            f"tool {tool.name} runs in the image {command.image}, and this backend has no images. "
            "Use the Docker or Kubernetes backend",
            field="spec.tool",
        )
    if spec.runtime_class_name is not None and not abilities.runtime_classes:
        return _refusal(
            Reason.UNSUPPORTED,
            "runtime classes exist on Kubernetes only. Remove spec.runtimeClassName, or run the task there",
            field="spec.runtimeClassName",
        )
    return _unsupported_files(spec, abilities)


def _unsupported_files(spec: AgentTaskSpec, abilities: Abilities) -> Refusal | None:
    if not abilities.artifacts and any(file.artifact is not None for file in spec.files):
        return _refusal(
            Reason.UNSUPPORTED,
            "this backend reads no files from an object store. Give their content in spec.files",
            field="spec.files",
        )
    workspace = spec.workspace
    if workspace is not None and workspace.host_path is not None:
        if not abilities.host_workspace:
            return _refusal(
                Reason.UNSUPPORTED,
                "a directory of the host can be a workspace on this machine only",
                field="spec.workspace.hostPath",
            )
        if not Path(workspace.host_path).is_dir():
            return _refusal(
                Reason.INVALID_SPEC,
                f"{workspace.host_path} is not a directory. Create it, or correct spec.workspace.hostPath",
                field="spec.workspace.hostPath",
            )
    return None


def _invalid(problems: Sequence[Problem]) -> Refusal:
    message = "; ".join(f"{problem.path}: {problem.message}" for problem in problems)
    return _refusal(Reason.INVALID_ARGUMENTS, message, field=problems[0].path)


def _refusal(reason: Reason, message: str, *, field: str | None = None, rule: str | None = None) -> Refusal:
    return Refusal(
        reason, message, ExecutionError(type=reason.value, message=message, field=field, rule=rule)
    )
