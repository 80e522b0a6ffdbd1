"""Tool: what can be run, what it takes and gives, and how it runs."""

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, ValidationInfo, model_validator

from corral.api.duration import Duration
from corral.api.errors import Finding
from corral.api.files import InputFile
from corral.api.input_schema import schema_findings
from corral.api.limits import Limits
from corral.api.metadata import ObjectMeta
from corral.api.model import (
    NOT_EMPTY,
    ApiModel,
    Bool,
    Int,
    JsonObject,
    JsonValue,
    Pattern,
    ToolName,
    refuse,
    text_up_to,
)
from corral.api.network import Network
from corral.api.permissions import PermissionLevel
from corral.api.reasons import Reason
from corral.api.references import ReferenceProblem, find_references
from corral.api.task import EnvVar

#: Key of the validation context that says: this manifest ships with Corral, our tests check its schemas.
TRUSTED = "corral.trusted"

_Word = Annotated[str, Pattern("[a-z0-9]([-_a-z0-9]*[a-z0-9])?", "a lower-case word such as web-search", 63)]
_Import = Annotated[
    str, Pattern(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*", "a module such as urllib.parse", 253)
]
_Identifier = Annotated[str, Pattern("[A-Za-z_][A-Za-z0-9_]*", "a Python identifier", 128)]


class ResultFormat(StrEnum):
    """How a command's standard output becomes a result."""

    TEXT = "Text"
    JSON = "JSON"


class FunctionRun(ApiModel):
    """Python code with one function; its arguments are the tool's, its return value is the result."""

    code: Annotated[str, text_up_to(65536, "Python source")] = Field(description="Python source.")
    entrypoint: _Identifier = Field("main", description="Name of the function to call.")
    allowed_imports: Annotated[tuple[_Import, ...], Field(max_length=256)] | None = Field(
        None, description="Modules that the code may import. Absent: all that the sandbox has."
    )


class CommandRun(ApiModel):
    """A program, in the sandbox's image or in one of its own."""

    argv: Annotated[tuple[Annotated[str, text_up_to(65536)], ...], Field(max_length=256), *NOT_EMPTY] = Field(
        description="Program and arguments, no shell. $(arguments.NAME) is an argument of the call."
    )
    stdin: Annotated[str, text_up_to(65536)] | None = Field(
        None, description="Text for standard input; may hold $(arguments.NAME)."
    )
    image: Annotated[str, Pattern(r"[^\s\x00]+", "an image reference", 512)] | None = Field(
        None, description="Container image. Absent: Corral's own. Docker and Kubernetes backends only."
    )
    has_runner: Bool = Field(
        False,
        description="The image was built on Corral's sandbox image, so every limit and feature holds in it. "
        "Otherwise the program runs as the container's own, and what needs the runner is refused.",
    )
    result_format: ResultFormat = Field(
        ResultFormat.TEXT, description="Text: stdout is the result as a string. JSON: stdout is parsed."
    )


class Run(ApiModel):
    """How the tool runs: exactly one of these."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                {
                    "rule": "[has(self.builtin), has(self.function), has(self.command)]"
                    ".exists_one(given, given)",
                    "message": "exactly one of builtin, function and command is needed",
                }
            ]
        }
    )

    builtin: ToolName | None = Field(None, description="A tool that ships with Corral.")
    function: FunctionRun | None = Field(None, description="Python code with one function.")
    command: CommandRun | None = Field(None, description="A program.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        given = [name for name in ("builtin", "function", "command") if getattr(self, name) is not None]
        if len(given) != 1:
            found = f"; found {' and '.join(given)}" if given else ""
            refuse([Finding((), f"exactly one of builtin, function and command is needed{found}")])
        return self


class ToolLimits(ApiModel):
    """What the tool gets by default, and what a task may ask for at most."""

    default: Limits | None = Field(None, description="For tasks that ask for nothing.")
    maximum: Limits | None = Field(None, description="A task that asks for more is refused.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.default is not None and self.maximum is not None:
            refuse(
                Finding(("default", name), f"the default of {name} is above the tool's own maximum")
                for name in self.default.exceeds(self.maximum)
            )
        return self


class RateLimit(ApiModel):
    """How often the tool may be called."""

    requests_per_minute: Annotated[Int, Field(ge=1, le=1_000_000)] = Field(
        description="Calls per minute, over all callers of the namespace."
    )


class ToolExample(ApiModel):
    """A call and what it gives. The test suite runs it; the documentation shows it."""

    name: _Word = Field(description="Name of the example.")
    description: Annotated[str, Field(max_length=1024)] | None = Field(None, description="What it shows.")
    arguments: JsonObject = Field({}, description="The arguments of the call.")
    files: Annotated[tuple[InputFile, ...], Field(max_length=16)] = Field(
        (), description="Files in the workspace before the call."
    )
    env: Annotated[tuple[EnvVar, ...], Field(max_length=16)] = Field((), description="Environment variables.")
    result: JsonValue = Field(None, description="The whole result.")
    result_contains: JsonObject | None = Field(
        None, description="A part of the result: objects may have more members, lists are compared whole."
    )
    stdout: Annotated[str, Field(max_length=16384)] | None = Field(None, description="All that it prints.")
    reason: Reason = Field(Reason.COMPLETED, description="How it ends.")


class ToolSpec(ApiModel):
    """What a tool is for, what it takes and gives, what it needs, and how it runs."""

    description: Annotated[str, Field(min_length=1, max_length=4096)] = Field(
        description="What it does, for people and for models that choose a tool."
    )
    category: _Word = Field("general", description="Category, one word.")
    tags: Annotated[tuple[_Word, ...], Field(max_length=32)] = Field((), description="Words to find it by.")
    version: Annotated[str, Pattern("[0-9A-Za-z][-0-9A-Za-z.+]*", "a version such as 1.0.0", 64)] = Field(
        "1.0.0", description="Version of the tool."
    )
    author: Annotated[str, Field(max_length=253)] = Field("", description="Who made it.")
    input_schema: JsonObject = Field(
        {"type": "object"}, description="JSON Schema (Draft 2020-12) of the arguments; its type is object."
    )
    output_schema: JsonObject | None = Field(None, description="JSON Schema (Draft 2020-12) of the result.")
    permissions: Annotated[tuple[PermissionLevel, ...], Field(max_length=len(PermissionLevel))] = Field(
        (), description="What it needs. The policy must grant all of it, and the sandbox allows no more."
    )
    dangerous: Bool = Field(
        False, description="It can do harm that cannot be undone; discovery can leave it out."
    )
    idempotent: Bool = Field(
        False,
        description="Running it twice is as good as once; only then is it retried after it may have begun.",
    )
    limits: ToolLimits | None = Field(None, description="Default and maximum limits.")
    network: Network | None = Field(
        None,
        description="The most that a task of this tool may reach. Only a task itself opens the network. "
        "Absent: whatever the policy allows.",
    )
    rate_limit: RateLimit | None = Field(None, description="How often it may be called.")
    cache_ttl: Duration | None = Field(
        None, alias="cacheTTL", description="How long a result may be used again for the same arguments."
    )
    estimated_duration: Duration | None = Field(None, description="How long a call usually takes.")
    examples: Annotated[tuple[ToolExample, ...], Field(max_length=32)] = Field(
        (), description="Calls and what they give."
    )
    run: Run = Field(description="How it runs.")

    @model_validator(mode="after")
    def _check(self, info: ValidationInfo) -> Self:
        if info.context is not None and info.context.get(TRUSTED):
            return self
        if self.input_schema.get("type") == "object":
            findings = schema_findings(self.input_schema, ("inputSchema",))
        else:
            findings = [Finding(("inputSchema", "type"), 'the type of arguments is always "object"')]
        if self.output_schema is not None:
            findings += schema_findings(self.output_schema, ("outputSchema",))
        refuse([*findings, *self._unknown_arguments()])
        return self

    def _unknown_arguments(self) -> Iterator[Finding]:
        """Find $(arguments.NAME) in a command that no call can fill."""
        if self.run.command is None:
            return
        properties = self.input_schema.get("properties")
        known = set(properties) if isinstance(properties, dict) else set()
        closed = self.input_schema.get("additionalProperties") is False
        for field, value in (("argv", self.run.command.argv), ("stdin", self.run.command.stdin)):
            try:
                for location, reference in find_references(value, "arguments"):
                    if closed and reference.name not in known:
                        names = ", ".join(sorted(known)) or "none"
                        message = f"{reference}: inputSchema has no such property; it has {names}"
                        yield Finding(("run", "command", field, *location), message)
            except ReferenceProblem as problem:
                yield Finding(("run", "command", field, *problem.location), problem.message)


class ToolMeta(ObjectMeta):
    """Metadata of a Tool. Programs call tools ``read_file``, Kubernetes objects can only be ``read-file``."""

    name: ToolName | None = Field(
        None, description="Name of the tool. On a cluster with hyphens; underscores mean the same."
    )


class Tool(ApiModel):
    """A tool that tasks can run."""

    api_version: Literal["corral.dev/v1alpha1"] = Field(
        "corral.dev/v1alpha1", description="corral.dev/v1alpha1."
    )
    kind: Literal["Tool"] = Field("Tool", description="Tool.")
    metadata: ToolMeta = Field(description="Name, namespace, labels.")
    spec: ToolSpec = Field(description="What it is for, what it needs, how it runs.")

    @property
    def name(self) -> str:
        """The name that tasks call it by."""
        return self.metadata.name or ""

    def to_wire(self) -> dict[str, Any]:
        """Return the resource as JSON."""
        return {"apiVersion": self.api_version, "kind": self.kind, **super().to_wire()}
