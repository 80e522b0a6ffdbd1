"""Reading manifests: files of one or more YAML documents, every problem with its line."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from pydantic import ValidationError

from corral.api.errors import ManifestError, Problem, describe_found
from corral.api.model import API_VERSION
from corral.api.pool import SandboxPool
from corral.api.problems import Locate, did_you_mean, place_problem, problems_in
from corral.api.task import AgentTask
from corral.api.tool import TRUSTED, Tool
from corral.api.yaml_tree import Node, read_documents

Resource: TypeAlias = AgentTask | Tool | SandboxPool

#: Every kind of the group, by name.
KINDS: Final[Mapping[str, type[Resource]]] = {
    "AgentTask": AgentTask,
    "Tool": Tool,
    "SandboxPool": SandboxPool,
}

#: A file larger than that is no collection of manifests.
MAX_FILE_BYTES = 16 << 20
_SUFFIXES = (".yaml", ".yml", ".json")


@dataclass(frozen=True, slots=True)
class LoadedManifest:
    """A resource and where it was read."""

    resource: Resource
    #: The file, or what the caller called the text.
    source: str | None = None
    #: The line where the document begins, from 1.
    line: int | None = None

    @property
    def kind(self) -> str:
        """The kind, such as AgentTask."""
        return self.resource.kind


def load_manifests(
    manifest: str | Path, *, source: str | None = None, trusted: bool = False
) -> list[LoadedManifest]:
    """Read the manifests in a text, a file, or a directory's .yaml, .yml and .json files by name.

    Args:
        manifest: a ``str`` is the text itself, a ``Path`` a file or a directory.
        source: what to call the text in problems.
        trusted: the manifests ship with Corral; the JSON Schemas in them are not checked again.

    Raises:
        ManifestError: with all problems of all documents. Nothing is returned then.
        OSError: the file cannot be read.
    """
    manifests: list[LoadedManifest] = []
    problems: list[Problem] = []
    for text, name in _texts(manifest, source):
        before = len(manifests), len(problems)
        try:
            for root in read_documents(text, name):
                try:
                    manifests.append(_load(root, name, trusted=trusted))
                except ManifestError as error:
                    problems += error.problems
        except ManifestError as error:
            problems += error.problems
        if (len(manifests), len(problems)) == before:
            problems.append(Problem("", "there is no manifest in it", source=name))
    if problems:
        raise ManifestError(problems)
    return manifests


def parse_resource(data: Any) -> Resource:
    """Read one resource that is JSON already, such as the body of a request.

    Raises:
        ManifestError: with all problems.
    """
    return _parse(data, None, None, trusted=False)


def _texts(manifest: str | Path, source: str | None) -> Iterator[tuple[str | bytes, str | None]]:
    if isinstance(manifest, str):
        yield manifest, source
        return
    if manifest.is_dir():
        paths = sorted(path for path in manifest.iterdir() if path.suffix in _SUFFIXES and path.is_file())
        if not paths:
            raise ManifestError(
                [Problem("", "there is no .yaml, .yml or .json file in it", source=str(manifest))]
            )
    else:
        paths = [manifest]
    for path in paths:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise ManifestError([Problem("", f"larger than {MAX_FILE_BYTES >> 20} MiB", source=str(path))])
        yield data, source or str(path)


def _load(root: Node, source: str | None, *, trusted: bool) -> LoadedManifest:
    return LoadedManifest(_parse(root.value, source, root.locate, trusted=trusted), source, root.line)


def _parse(data: Any, source: str | None, locate: Locate | None, *, trusted: bool) -> Resource:
    if not isinstance(data, Mapping):
        message = f"expected an object with apiVersion and kind, found {describe_found(data)}"
        raise ManifestError([place_problem(Problem("", message), (), source, locate)])
    kind, version = data.get("kind"), data.get("apiVersion")
    model = KINDS.get(kind) if isinstance(kind, str) else None
    if model is None or version != API_VERSION:
        known = ("apiVersion", version, (API_VERSION,)), ("kind", kind, tuple(KINDS))
        raise ManifestError(
            [
                place_problem(_unknown(found, choices), (name,), source, locate)
                for name, found, choices in known
                if found not in choices
            ]
        )
    try:
        resource: Resource = model.model_validate(
            data, by_alias=True, by_name=False, context={TRUSTED: trusted}
        )
    except ValidationError as error:
        raise ManifestError(problems_in(error, model, source=source, locate=locate)) from None
    if resource.metadata.name is None and resource.metadata.generate_name is None:
        problem = Problem("", "is missing", expected="a name")
        raise ManifestError([place_problem(problem, ("metadata", "name"), source, locate)])
    return resource


def _unknown(found: Any, choices: tuple[str, ...]) -> Problem:
    expected = choices[0] if len(choices) == 1 else f"one of {', '.join(choices)}"
    guess = did_you_mean(found, choices) if isinstance(found, str) else None
    remedy = f'did you mean "{guess}"?' if guess and len(choices) > 1 else None
    shown = describe_found(found)
    return Problem("", f"expected {expected}, found {shown}", expected, shown, remedy)
