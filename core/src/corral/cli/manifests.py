"""The manifests that ``-f`` names: read all at once, with all that is wrong in all of them."""

import secrets
import string
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corral.api import (
    AgentTask,
    LoadedManifest,
    Location,
    ManifestError,
    Problem,
    ReferenceProblem,
    SandboxPool,
    Tool,
    format_path,
    load_manifests,
    references_in,
)
from corral.api.manifest import MAX_FILE_BYTES
from corral.api.yaml_tree import Node, read_documents
from corral.catalogue import Catalogue, ToolExistsError, ToolNotFoundError, validate_arguments
from corral.cli.exits import BadInputError
from corral.cli.intake import StandardInput

STDIN = "-"
_STDIN_NAME = "standard input"
#: As many characters as the API server adds to a generateName.
_SUFFIX_LENGTH = 5


@dataclass(frozen=True, slots=True)
class Manifests:
    """What was read."""

    loaded: tuple[LoadedManifest, ...]
    #: The text of standard input, if that was among the sources.
    stdin: str | None = None

    @property
    def tasks(self) -> list[AgentTask]:
        """The tasks, in order, each with a name."""
        return [_named(item.resource) for item in self.loaded if isinstance(item.resource, AgentTask)]

    @property
    def tools(self) -> list[Tool]:
        """The tools, in order."""
        return [item.resource for item in self.loaded if isinstance(item.resource, Tool)]

    @property
    def pools(self) -> list[SandboxPool]:
        """The pools, in order."""
        return [item.resource for item in self.loaded if isinstance(item.resource, SandboxPool)]


def read_manifests(sources: Sequence[str], stdin: StandardInput) -> Manifests:
    """Read files, directories and ``-``.

    Raises:
        BadInputError: with every problem of every source.
    """
    loaded: list[LoadedManifest] = []
    problems: list[Problem] = []
    text: str | None = None
    for source in dict.fromkeys(sources):
        try:
            if source == STDIN:
                text = stdin.read("-f -", MAX_FILE_BYTES)
                loaded += load_manifests(text, source=_STDIN_NAME)
            else:
                loaded += load_manifests(Path(source))
        except ManifestError as error:
            problems += error.problems
        except BadInputError as error:
            problems += [Problem("", message, source=source) for message in error.problems]
        except OSError as error:
            problems.append(Problem("", str(error.strerror), source=source))
    problems += _names_twice(loaded)
    if problems:
        raise BadInputError(problems)
    return Manifests(tuple(loaded), text)


def build_catalogue(directories: Iterable[str], manifests: Manifests | None = None) -> Catalogue:
    """Return the built-in tools, those of ``--tools``, and those among the manifests.

    Raises:
        BadInputError: with every problem of every directory, and every name that is taken.
    """
    catalogue = Catalogue.builtin()
    problems: list[str] = []
    remedy = None
    for directory in directories:
        try:
            catalogue.load_directory(Path(directory))
        except ManifestError as error:
            problems += [str(problem) for problem in error.problems]
        except ToolExistsError as error:
            problems.append(f"{directory}: {error}")
            remedy = "Give the tool another metadata.name"
        except OSError as error:
            problems.append(f"{directory}: {error.strerror}")
    for item in manifests.loaded if manifests else ():
        if isinstance(item.resource, Tool):
            try:
                catalogue.register(item.resource)
            except ToolExistsError as error:
                problems.append(f"{item.source}:{item.line}: metadata.name: {error}")
                remedy = "Give the tool another metadata.name"
    if problems:
        raise BadInputError(problems, remedy)
    return catalogue


@dataclass(frozen=True, slots=True)
class Review:
    """What a catalogue says of tasks that are right in themselves."""

    #: Arguments that do not fit the tool's schema.
    problems: tuple[Problem, ...]
    #: Tools that are not known here, so that their arguments were not looked at.
    unknown: tuple[Problem, ...]


def review(manifests: Manifests, catalogue: Catalogue) -> Review:
    """Hold the arguments of tasks and steps against their tools, as far as that can be before they run."""
    problems: list[Problem] = []
    unknown: list[Problem] = []
    for item in manifests.loaded:
        if not isinstance(item.resource, AgentTask):
            continue
        found = list(_task_problems(item.resource, catalogue))
        if found:
            place = _Places(item, manifests.stdin)
            for problem, is_unknown in found:
                (unknown if is_unknown else problems).append(place.of(problem))
    return Review(_in_order(problems), _in_order(unknown))


def _in_order(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    return tuple(
        sorted(problems, key=lambda problem: (problem.source or "", problem.line or 0, problem.column or 0))
    )


def _task_problems(task: AgentTask, catalogue: Catalogue) -> Iterator[tuple[Problem, bool]]:
    spec = task.spec
    calls: list[tuple[Location, str, dict[str, Any]]] = []
    if spec.tool is not None:
        calls.append((("spec",), spec.tool, spec.arguments))
    for index, step in enumerate(spec.steps):
        calls.append((("spec", "steps", index), step.tool, step.arguments))
    for location, name, arguments in calls:
        try:
            tool = catalogue.get(name)
        except ToolNotFoundError as error:
            hint = f'did you mean "{error.suggestion}"?' if error.suggestion else None
            message = f'there is no tool "{name}" here, so its arguments were not checked'
            yield Problem(format_path((*location, "tool")), message, remedy=hint), True
            continue
        if len(location) > 1 and _refers(arguments):
            continue  # what a reference becomes is known when the step starts
        for problem in validate_arguments(tool, arguments, prefix=(*location, "arguments")):
            yield problem, False


def _refers(arguments: object) -> bool:
    try:
        return bool(references_in(arguments))
    except ReferenceProblem:
        return True


class _Places:
    """Where in its file each field of a manifest stands."""

    def __init__(self, item: LoadedManifest, stdin: str | None) -> None:
        self._item = item
        self._places: dict[str, tuple[int, int]] = {}
        text = stdin if item.source == _STDIN_NAME else None
        try:
            content = Path(item.source or "").read_bytes() if text is None else text
            root = next(
                (root for root in read_documents(content, item.source) if root.line == item.line), None
            )
        except (OSError, ManifestError):
            return  # it was there a moment ago; the line of the document must do
        if root is not None:
            self._walk(root, root, ())

    def _walk(self, root: Node, node: Node, location: tuple[str | int, ...]) -> None:
        # At most as deep as the reader of manifests lets a document be.
        self._places[format_path(location)] = root.locate(location)
        for key, child in node.children.items():
            self._walk(root, child, (*location, key))

    def of(self, problem: Problem) -> Problem:
        from dataclasses import replace

        path = problem.path
        while path and path not in self._places:
            # What is missing is told at what it is missing in.
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        line, column = self._places.get(path, (self._item.line, 1))
        return replace(problem, source=self._item.source, line=line, column=column)


def _names_twice(loaded: Iterable[LoadedManifest]) -> Iterator[Problem]:
    seen: dict[tuple[str, str | None, str], LoadedManifest] = {}
    for item in loaded:
        metadata = item.resource.metadata
        if metadata.name is None:
            continue
        key = (item.kind, metadata.namespace, metadata.name)
        first = seen.setdefault(key, item)
        if first is not item:
            yield Problem(
                "metadata.name",
                f'the {item.kind} "{metadata.name}" is there already, at {first.source}:{first.line}',
                source=item.source,
                line=item.line,
            )


def _named(task: AgentTask) -> AgentTask:
    """Complete a generateName, as the API server does."""
    if task.metadata.name is not None:
        return task
    suffix = "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(_SUFFIX_LENGTH))
    name = f"{task.metadata.generate_name}{suffix}"
    return task.model_copy(update={"metadata": task.metadata.model_copy(update={"name": name})})
