"""AgentTask: what is to run, and what became of it."""

import json
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, WithJsonSchema, model_validator

from corral.api.chain import check_steps
from corral.api.duration import Duration
from corral.api.errors import Finding
from corral.api.files import InputFile
from corral.api.limits import Limits
from corral.api.metadata import ObjectMeta
from corral.api.model import (
    NOT_EMPTY,
    ApiModel,
    Bool,
    DnsSubdomain,
    EnvName,
    GlobPattern,
    Int,
    JsonObject,
    Pattern,
    RelativePath,
    ToolName,
    expectation,
    refuse,
    text_up_to,
)
from corral.api.network import Network
from corral.api.reasons import RETRY_SAFE_REASONS, Reason
from corral.api.status import AgentTaskStatus, ExecutionStatus
from corral.api.steps import MAX_STEPS, Step, Strategy

#: kopf and etcd both pay for every byte of a spec, at every event.
MAX_SPEC_BYTES = 64 * 1024


class EnvVar(ApiModel):
    """An environment variable of the tool."""

    name: EnvName = Field(description="Name.")
    value: Annotated[str, text_up_to(32768)] = Field("", description="Value.")


class SecretRef(ApiModel):
    """An environment variable whose value stands in a Secret of the task's namespace."""

    name: DnsSubdomain = Field(description="Name of the Secret.")
    key: Annotated[str, Pattern("[-._a-zA-Z0-9]+", "a key of a Secret", 253)] = Field(
        description="Key in the Secret."
    )
    env: EnvName = Field(description="Name of the environment variable that receives it.")


class Workspace(ApiModel):
    """A directory of the host as workspace. Only the embedded backend can do this."""

    host_path: Annotated[str, Pattern(r"[^\x00]+", "a path", 4096)] | None = Field(
        None,
        description="Directory to work in: absolute, or relative to where the command is called. "
        "Absent: a fresh, empty workspace that goes away with the sandbox.",
    )
    read_only: Bool = Field(False, description="The tool cannot write to it.")


def _check_retry_reason(reason: Reason) -> Reason:
    if reason not in RETRY_SAFE_REASONS:
        raise expectation(
            f"one of {', '.join(RETRY_SAFE_REASONS)}", "after any other reason a retry is not safe"
        )
    return reason


RetryReason = Annotated[
    Reason,
    AfterValidator(_check_retry_reason),
    WithJsonSchema({"type": "string", "enum": [reason.value for reason in RETRY_SAFE_REASONS]}),
]


class Retry(ApiModel):
    """When the task is tried again. Only causes outside the tool qualify."""

    max_attempts: Annotated[Int, Field(ge=1, le=10)] = Field(
        1, description="Attempts in all, the first included."
    )
    reasons: Annotated[tuple[RetryReason, ...], Field(max_length=len(RETRY_SAFE_REASONS))] = Field(
        RETRY_SAFE_REASONS, description="Reasons after which it is tried again."
    )
    backoff: Duration = Field("1s", description="Pause before the second attempt; doubles each time.")


class AgentSpec(ApiModel):
    """A prompt that an LLM works off, each tool call an execution of its own."""

    prompt: Annotated[str, Field(min_length=1, max_length=32768)] = Field(description="What to do.")
    model: Annotated[str, Field(min_length=1, max_length=253)] | None = Field(
        None, description="The model; absent: the gateway's own choice."
    )
    max_iterations: Annotated[Int, Field(ge=1, le=1000)] | None = Field(
        None, description="How often the model may be asked; absent: the gateway's own bound."
    )
    tools: Annotated[tuple[ToolName, ...], Field(max_length=128)] = Field(
        (), description="Tools it may call; empty: all that the caller may use."
    )


_KINDS = "has(self.tool), has(self.steps) && size(self.steps) > 0, has(self.agent)"


class AgentTaskSpec(ApiModel):
    """What is to run: exactly one of a tool, a chain of steps, or an agent's prompt."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                {
                    "rule": f"[{_KINDS}].exists_one(given, given)",
                    "message": "exactly one of tool, steps and agent is needed",
                },
                {"rule": "has(self.tool) || !has(self.arguments)", "message": "arguments need a tool"},
            ],
            "x-corral-immutable-except": ["cancel"],
        }
    )

    tool: ToolName | None = Field(None, description="The tool to run once.")
    arguments: JsonObject = Field({}, description="The tool's arguments, as its inputSchema asks.")
    steps: Annotated[tuple[Step, ...], Field(max_length=MAX_STEPS)] = Field(
        (),
        description="A chain of tool calls; arguments may refer to the results of earlier ones.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    strategy: Strategy = Field(
        Strategy.SEQUENTIAL,
        description="Sequential: in the order given. Parallel: each as soon as what it waits for has ended.",
    )
    max_depth: Annotated[Int, Field(ge=1, le=MAX_STEPS)] = Field(
        8, description="The longest path of steps that wait for each other's results."
    )
    agent: AgentSpec | None = Field(None, description="A prompt for an LLM that calls tools.")
    limits: Limits | None = Field(None, description="What one execution may use at most.")
    network: Network | None = Field(None, description="What the tool may reach. Absent: nothing.")
    files: Annotated[tuple[InputFile, ...], Field(max_length=64)] = Field(
        (), description="Files put into the workspace before the tool starts."
    )
    workspace: Workspace | None = Field(
        None, description="A directory of the host as workspace; embedded backend only."
    )
    allowed_paths: Annotated[tuple[RelativePath, ...], Field(max_length=64), *NOT_EMPTY] = Field(
        (".",), description="What of the workspace the tool may touch."
    )
    outputs: Annotated[tuple[GlobPattern, ...], Field(max_length=64)] = Field(
        (), description="Patterns of workspace files to bring back, such as out/*.csv."
    )
    env: Annotated[tuple[EnvVar, ...], Field(max_length=128)] = Field(
        (),
        description="Environment variables of the tool.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    secret_refs: Annotated[tuple[SecretRef, ...], Field(max_length=64)] = Field(
        (),
        description="Environment variables taken from Secrets.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["env"]},
    )
    runtime_class_name: DnsSubdomain | None = Field(
        None, description="RuntimeClass of the pod, such as gvisor."
    )
    idempotency_key: Annotated[str, Pattern("[!-~]+", "printable ASCII without spaces", 255)] | None = Field(
        None,
        description="The same key and spec again is the same task; with another spec it is refused.",
    )
    priority: Annotated[Int, Field(ge=-1000, le=1000)] = Field(
        0,
        description="Among a caller's waiting tasks, the higher one goes first. Those applied by hand are one "
        "caller's.",
    )
    retry: Retry | None = Field(None, description="When to try again. Absent: never.")
    active_deadline_seconds: Annotated[Int, Field(ge=1, le=604800)] | None = Field(
        None, description="Seconds that the whole task may take: waiting, all attempts, all steps."
    )
    ttl_seconds_after_finished: Annotated[Int, Field(ge=0, le=31536000)] | None = Field(
        None, description="Seconds after which the ended task is deleted. Absent: kept."
    )
    cancel: Bool = Field(False, description="Set to true to end the task with reason Cancelled.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        findings = [*self._one_kind(), *self._names_twice()]
        if self.steps:
            findings += check_steps(self.steps, self.strategy, self.max_depth)
        refuse(findings)
        size = len(json.dumps(self.to_wire(), separators=(",", ":"), ensure_ascii=False).encode())
        if size > MAX_SPEC_BYTES:
            message = f"the spec has {size} bytes as JSON, at most {MAX_SPEC_BYTES} are allowed"
            refuse(
                [Finding((), message, remedy="larger content goes by reference, or with corral run --file")]
            )
        return self

    @property
    def called_tools(self) -> tuple[str, ...]:
        """Names of the tools that it calls, in the order of its steps, as often as they are called."""
        return tuple(step.tool for step in self.steps) if self.tool is None else (self.tool,)

    def _one_kind(self) -> list[Finding]:
        given = [
            name
            for name, there in (("tool", self.tool), ("steps", self.steps), ("agent", self.agent))
            if there
        ]
        findings = []
        if len(given) != 1:
            found = f"; found {' and '.join(given)}" if given else ""
            findings.append(Finding((), f"exactly one of tool, steps and agent is needed{found}"))
        if self.arguments and self.tool is None:
            findings.append(Finding(("arguments",), "arguments need a tool; a step has its own"))
        return findings

    def _names_twice(self) -> list[Finding]:
        findings: list[Finding] = []
        seen: set[str] = set()
        for field, names in (
            ("env", [("name", variable.name) for variable in self.env]),
            ("secretRefs", [("env", reference.env) for reference in self.secret_refs]),
        ):
            for position, (key, name) in enumerate(names):
                if name in seen:
                    findings.append(Finding((field, position, key), f'the variable "{name}" is set already'))
                seen.add(name)
        paths: set[str] = set()
        for position, file in enumerate(self.files):
            path = "/".join(part for part in file.path.split("/") if part not in ("", "."))
            if path in paths or not path:
                findings.append(Finding(("files", position, "path"), f'"{file.path}" is there already'))
            paths.add(path)
        return findings


class AgentTask(ApiModel):
    """What an AI agent wants to run, and what became of it."""

    api_version: Literal["corral.dev/v1alpha1"] = Field(
        "corral.dev/v1alpha1", description="corral.dev/v1alpha1."
    )
    kind: Literal["AgentTask"] = Field("AgentTask", description="AgentTask.")
    metadata: ObjectMeta = Field(description="Name, namespace, labels.")
    spec: AgentTaskSpec = Field(description="What is to run.")
    status: AgentTaskStatus | None = Field(None, description="What became of it. Written by Corral alone.")

    def to_wire(self) -> dict[str, Any]:
        """Return the resource as JSON, the status in full, so that its readers need no defaults."""
        wire = {"apiVersion": self.api_version, "kind": self.kind, **super().to_wire()}
        if self.status is not None:
            wire["status"] = self.status.model_dump(mode="json", by_alias=True, exclude_none=True)
        return wire

    @property
    def executions(self) -> tuple[ExecutionStatus, ...]:
        """The executions so far."""
        return self.status.executions if self.status is not None else ()

    @property
    def reason(self) -> Reason | None:
        """Why the task ended; None while it has not."""
        return self.status.reason if self.status is not None else None

    @property
    def succeeded(self) -> bool:
        """The task ended well."""
        return self.reason is Reason.COMPLETED

    @property
    def result(self) -> Any:
        """The structured result of the last execution; None where there is none."""
        return self.executions[-1].result if self.executions else None

    @property
    def stdout(self) -> str:
        """What the last execution printed."""
        output = self.executions[-1].output if self.executions else None
        return output.stdout if output is not None else ""
