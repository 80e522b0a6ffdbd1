"""What to run: from the options of ``corral run`` to tasks.

Whatever can be known to be wrong before anything runs is refused here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from corral.api import AgentTask, AgentTaskSpec, ObjectMeta, Tool, Workspace
from corral.catalogue import Catalogue, ToolNotFoundError, normalise, validate_arguments
from corral.cli.arguments import parse_arguments
from corral.cli.exits import BadInputError
from corral.cli.intake import (
    StandardInput,
    option_problems,
    parse_environment,
    parse_limits,
    read_files,
    read_text,
)
from corral.cli.manifests import build_catalogue, read_manifests

#: Returns a gateway's tool by its name.
FetchTool: TypeAlias = Callable[[str], Tool]

_MANIFEST_SUFFIXES = (".yaml", ".yml", ".json")


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The command line of ``corral run``, as given."""

    words: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    workspace: str | None = None
    read_only: bool = False
    output_files: tuple[str, ...] = ()
    output_dir: str | None = None
    tools: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """What will run."""

    tasks: tuple[AgentTask, ...]
    catalogue: Catalogue
    #: The one task came from a tool's name and arguments.
    by_name: bool
    #: What the person should know of it, beside the results.
    notes: tuple[str, ...] = ()
    #: Files that go to a gateway beside the one task, by their paths in the workspace.
    uploads: Mapping[str, bytes] = field(default_factory=dict)


def read_request(options: RunOptions, *, shows_files: bool, fetch_tool: FetchTool | None = None) -> Request:
    """Read what is to run.

    Args:
        options: the command line.
        shows_files: the output has a place for files that came back, so that they need no directory.
        fetch_tool: where it is to run at a gateway: returns a tool of it.

    Raises:
        BadInputError: it cannot be run as it stands.
    """
    if options.sources:
        return _from_manifests(options, is_remote=fetch_tool is not None)
    if not options.words:
        raise BadInputError(
            "nothing to run",
            "Name a tool (corral run calculator expression='6 * 7') or a manifest (corral run -f FILE)",
        )
    if options.output_files and options.output_dir is None and not shows_files:
        raise BadInputError(
            "--output-file says which files come back, and no option says where to",
            "Add --output-dir DIR, or -o json to have small files in the status",
        )
    if options.read_only and options.workspace is None:
        raise BadInputError("--read-only goes with --workspace DIR")
    return _from_words(options, fetch_tool)


def _from_manifests(options: RunOptions, *, is_remote: bool) -> Request:
    # Said rather than passed over: whoever adds --limit to -f believes that it holds.
    misplaced: Mapping[str, tuple[object, str]] = {
        options.words[0] if options.words else "": (
            options.words,
            "a manifest has spec.tool and spec.arguments",
        ),
        "--limit": (options.limits, "a manifest has spec.limits"),
        "--env": (options.env, "a manifest has spec.env"),
        "--file": (options.files, "a manifest has spec.files"),
        "--workspace": (options.workspace, "a manifest has spec.workspace.hostPath"),
        "--read-only": (options.read_only, "a manifest has spec.workspace.readOnly"),
        "--output-file": (options.output_files, "a manifest has spec.outputs"),
    }
    problems = [
        f"{name} cannot go with -f: {instead}" for name, (given, instead) in misplaced.items() if given
    ]
    if problems:
        raise BadInputError(problems)
    manifests = read_manifests(options.sources, StandardInput())
    catalogue = build_catalogue(options.tools, manifests)
    if not manifests.tasks:
        kinds = ", ".join(sorted({item.kind for item in manifests.loaded}))
        raise BadInputError(
            f"there is no AgentTask in {', '.join(options.sources)}, only {kinds}",
            "Give the file with the task too; corral run TOOL --tools FILE runs a tool by its name",
        )
    notes = []
    if manifests.pools:
        names = ", ".join(str(pool.metadata.name) for pool in manifests.pools)
        notes.append(f"SandboxPool {names} is not used here: pools belong to a cluster (kubectl apply)")
    if manifests.tools and is_remote:
        names = ", ".join(tool.name for tool in manifests.tools)
        notes.append(f"Tool {names} is not sent: a gateway runs the tools that are registered there")
    return Request(tuple(manifests.tasks), catalogue, by_name=False, notes=tuple(notes))


def _from_words(options: RunOptions, fetch_tool: FetchTool | None) -> Request:
    name, *words = options.words
    if fetch_tool is None:
        catalogue = build_catalogue(options.tools)
        tool = _tool(catalogue, name)
    else:
        tool = fetch_tool(name)
        catalogue = Catalogue([tool])
    stdin = StandardInput()
    uploads: dict[str, bytes] = {}
    problems: list[str] = []
    remedies: list[str] = []
    given = {}
    # Every part is looked at before anything is said, so that one attempt shows all mistakes.
    for part, read in (
        ("arguments", lambda: _arguments(tool, words, stdin)),
        ("limits", lambda: parse_limits(options.limits)),
        ("env", lambda: parse_environment(options.env)),
        ("files", lambda: read_files(options.files, None if fetch_tool is None else uploads)),
        ("workspace", lambda: _workspace(options)),
    ):
        try:
            given[part] = read()
        except BadInputError as error:
            problems += error.problems
            remedies += [error.remedy] if error.remedy else []
    if problems:
        raise BadInputError(problems, " · ".join(remedies) or None)
    name = normalise(tool.name)
    # Here the name is for people; where many callers' tasks live together, no two may have the same.
    metadata = ObjectMeta(name=name) if fetch_tool is None else ObjectMeta(generate_name=f"{name}-")
    return Request((_task(tool, metadata, options, given),), catalogue, by_name=True, uploads=uploads)


def _tool(catalogue: Catalogue, name: str) -> Tool:
    try:
        return catalogue.get(name)
    except ToolNotFoundError as error:
        remedy = "corral tools lists what there is"
        if name.endswith(_MANIFEST_SUFFIXES) or Path(name).exists():
            remedy = f"To run a manifest: corral run -f {name}"
        elif "=" in name:
            remedy = "The tool's name comes first: corral run TOOL key=value"
        raise BadInputError(str(error), remedy) from None


def _arguments(tool: Tool, words: list[str], stdin: StandardInput) -> dict[str, object]:
    schema = tool.spec.input_schema
    remedy = f"corral tools show {tool.name} tells what it takes"
    try:
        arguments = parse_arguments(words, schema, lambda reference: read_text(reference, stdin))
    except BadInputError as error:
        raise BadInputError(error.problems, remedy) from None
    problems = validate_arguments(tool, arguments, prefix=())
    if problems:
        raise BadInputError([str(problem) for problem in problems], remedy)
    return arguments


def _workspace(options: RunOptions) -> Workspace | None:
    if options.workspace is None:
        return None
    path = Path(options.workspace)
    if not path.is_dir():
        raise BadInputError(f"--workspace {path}: not a directory")
    return Workspace(host_path=str(path.resolve()), read_only=options.read_only)


def _task(tool: Tool, metadata: ObjectMeta, options: RunOptions, given: Mapping[str, object]) -> AgentTask:
    from pydantic import ValidationError

    spec = {
        "tool": tool.name,
        "outputs": options.output_files,
        **{name: value for name, value in given.items() if value is not None},
    }
    try:
        return AgentTask(metadata=metadata, spec=AgentTaskSpec.model_validate(spec))
    except ValidationError as error:
        raise BadInputError(option_problems(error, AgentTaskSpec, "")) from None
