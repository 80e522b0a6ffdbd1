"""Runs a whole task on one backend: the tool or the chain, attempts, deadline, cancel, status."""

import asyncio
import contextlib
import platform
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from corral.api import (
    MAIN,
    AgentTask,
    AgentTaskStatus,
    ChainDecision,
    Condition,
    ConditionStatus,
    ExecutionError,
    ExecutionStatus,
    Frame,
    Phase,
    Problem,
    Reason,
    ReferenceProblem,
    SandboxStatus,
    Started,
    Step,
    StepOutcome,
    Tool,
    next_steps,
    parse_duration,
    phase_of,
    resolve_arguments,
    time_text,
)
from corral.catalogue import Catalogue, validate_arguments, with_defaults
from corral.catalogue.checker import CheckerUnavailableError
from corral.client.secrets import SecretMissingError, SecretSource
from corral.policy import Policy
from corral.sandbox.errors import (
    ImageUnavailableError,
    IsolationUnavailableError,
    SandboxError,
    UnsupportedError,
)
from corral.sandbox.execution import ReadFile, Record, execute
from corral.sandbox.plan import DOCKER, EMBEDDED, Abilities, Call, Check, Planned, Refusal, plan
from corral.sandbox.port import Owner, Sandbox, SandboxBackend

#: Called with the execution's name and each of its frames, as they come.
OnFrame = Callable[[str, Frame], None]
#: Called with the execution's name, the path and the content of each file that came back.
OnFile = Callable[[str, str, bytes], None]
#: Called with the status of a task that goes on, whenever it has changed.
OnStatus = Callable[[AgentTaskStatus], None]
#: Returns what is wrong with the arguments of a call.
CheckArguments = Callable[[Tool, Mapping[str, Any]], Awaitable[Sequence[Problem]]]

_CHANGED = (Problem("spec.tool", "the tool was replaced in this moment", remedy="run the task again"),)


@dataclass
class _Run:
    """One task while it runs."""

    task: AgentTask
    uid: str
    on_frame: OnFrame | None
    on_file: OnFile | None
    secrets: SecretSource
    policy: Policy
    check: CheckArguments | None = None
    on_status: OnStatus | None = None
    read_file: ReadFile | None = None
    attempt: int = 1
    cancelled: bool = False
    past_deadline: bool = False
    sandboxes: set[Sandbox] = field(default_factory=set)
    executions: list[ExecutionStatus] = field(default_factory=list)
    #: Those that have a sandbox and have not ended.
    open: dict[str, ExecutionStatus] = field(default_factory=dict)
    isolation: tuple[str, ...] = ()
    weakened: tuple[str, ...] = ()
    warm: bool | None = None
    began: datetime | None = None

    @property
    def stopped(self) -> Reason | None:
        """Why nothing more of it may start."""
        if self.past_deadline:
            return Reason.DEADLINE_EXCEEDED
        return Reason.CANCELLED if self.cancelled else None


class Executor:
    """Runs tasks. Each call is alone in its sandbox; what is refused starts none."""

    def __init__(
        self,
        backend: SandboxBackend,
        catalogue: Catalogue,
        policy: Policy,
        secrets: SecretSource,
    ) -> None:
        self._backend = backend
        self._catalogue = catalogue
        self._policy = policy
        self._secrets = secrets

    async def run(
        self,
        task: AgentTask,
        *,
        on_frame: OnFrame | None = None,
        on_file: OnFile | None = None,
        on_status: OnStatus | None = None,
        read_file: ReadFile | None = None,
        cancel: asyncio.Event | None = None,
        secrets: SecretSource | None = None,
        policy: Policy | None = None,
        check: CheckArguments | None = None,
    ) -> AgentTask:
        """Run a task to its end.

        Args:
            task: a valid one; its status, if any, is replaced.
            on_frame: hears everything as it happens.
            on_file: gets the files that ``outputs`` names, which a status holds only while they are small.
            on_status: hears how it stands from when its first sandbox is there, in the operator's words.
            read_file: returns the content of files that a gateway keeps; without it they are refused.
            cancel: set it to end the task; it then comes back as ``Cancelled`` with the output so far.
            secrets: where this task's ``secretRefs`` come from, if not from where all others' do.
            policy: what this task may do, if not what all others may.
            check: finds out whether arguments fit, where schemas come from others; by default this process does.

        Returns:
            The same task with its status. A task that fails is no exception.

        Raises:
            IsolationUnavailableError: this machine cannot isolate, so nothing ran.
        """
        run = _Run(
            task,
            task.metadata.uid or str(uuid.uuid4()),
            on_frame,
            on_file,
            secrets or self._secrets,
            policy or self._policy,
            check,
            on_status,
            read_file,
        )
        watchers = list(self._watch(run, cancel))
        try:
            if task.spec.cancel:
                return self._finished(run, Reason.CANCELLED, "spec.cancel was set before it started")
            if cancel is not None and cancel.is_set():
                run.cancelled = True
                return self._finished(run, Reason.CANCELLED, "the task was cancelled before it started")
            if task.spec.agent is not None:
                message = "agent tasks need a gateway with a model provider; this client runs tools and steps"
                return self._finished(run, Reason.UNSUPPORTED, message)
            if task.spec.steps:
                return await self._chain(run)
            call = Call(MAIN, task.spec.tool or "", task.spec.arguments, task.spec)
            status = await self._attempts(run, call)
            return self._finished(run, status.reason, status.message)
        finally:
            for watcher in watchers:
                watcher.cancel()
            # Only left if this coroutine itself is being cancelled.
            for sandbox in run.sandboxes:
                sandbox.kill()

    # --- one tool ---

    async def _attempts(self, run: _Run, call: Call) -> ExecutionStatus:
        """Execute a call, and again where its retry rule says so."""
        retry = call.spec.retry
        attempt = 1
        while True:
            status = await self._once(run, call, attempt)
            if (
                retry is None
                or attempt >= retry.max_attempts
                or status.reason not in retry.reasons
                or run.stopped
            ):
                break
            pause = parse_duration(retry.backoff) * 2 ** (attempt - 1)
            await asyncio.sleep(pause)
            attempt += 1
        run.attempt = max(run.attempt, attempt)
        run.executions.append(status)
        self._tell(run)
        return status

    async def _once(self, run: _Run, call: Call, attempt: int) -> ExecutionStatus:
        record = Record(call.name, call.tool, attempt, datetime.now(UTC))
        if run.stopped is not None:
            return record.refused(run.stopped, "the task ended before this could start")
        try:
            secrets = {ref.env: run.secrets.get(ref.name, ref.key) for ref in call.spec.secret_refs}
        except SecretMissingError as error:
            problem = ExecutionError(type="SecretMissing", message=str(error), field="spec.secretRefs")
            return record.refused(Reason.INVALID_SPEC, str(error), problem)
        owner = Owner(f"{run.uid}/{call.name}", attempt)
        try:
            check = await self._checked(run, call)
        except CheckerUnavailableError as error:
            return record.refused(Reason.SANDBOX_FAILED, str(error))
        planned = plan(
            call,
            owner,
            catalogue=self._catalogue,
            policy=run.policy,
            secrets=secrets,
            abilities=self._abilities(run),
            check=check,
        )
        if isinstance(planned, Refusal):
            return record.refused(planned.reason, planned.message, planned.error)
        return await self._in_sandbox(run, call, planned, record)

    def _abilities(self, run: _Run) -> Abilities:
        abilities = DOCKER if self._backend.name == "docker" else EMBEDDED
        return replace(abilities, artifacts=run.read_file is not None)

    async def _checked(self, run: _Run, call: Call) -> Check:
        """Return what says what is wrong with a call's arguments: found out already, or done where it is asked."""
        if run.check is None or call.tool not in self._catalogue:
            return validate_arguments
        tool = self._catalogue.get(call.tool)
        problems = await run.check(tool, with_defaults(tool, call.arguments))
        return lambda asked, _arguments: problems if asked is tool else _CHANGED

    async def _in_sandbox(self, run: _Run, call: Call, planned: Planned, record: Record) -> ExecutionStatus:
        try:
            sandbox = await self._backend.acquire(planned.needs)
        except IsolationUnavailableError:
            raise
        except ImageUnavailableError as error:
            return record.refused(Reason.IMAGE_PULL_FAILED, str(error))
        except UnsupportedError as error:
            problem = ExecutionError(type="Unsupported", message=str(error), field=error.field)
            return record.refused(Reason.UNSUPPORTED, str(error), problem)
        except SandboxError as error:
            return record.refused(Reason.SANDBOX_FAILED, str(error))
        run.sandboxes.add(sandbox)
        run.began = run.began or datetime.now(UTC)
        run.warm = sandbox.warm if run.warm is None else run.warm and sandbox.warm
        claimed = SandboxStatus(backend=self._backend.name, node=platform.node(), warm=sandbox.warm)
        run.open[call.name] = record.running(claimed)
        self._tell(run)

        def hear(frame: Frame) -> None:
            if isinstance(frame, Started):
                run.open[call.name] = record.running(claimed)
                self._tell(run)
            if run.on_frame is not None:
                run.on_frame(call.name, frame)

        try:
            if run.stopped is not None:
                return record.refused(run.stopped, "the task ended before this could start")
            status = await execute(
                sandbox, planned.request, record, call.spec.files, hear, read_file=run.read_file
            )
        finally:
            del run.open[call.name]
            run.sandboxes.discard(sandbox)
            self._backend.release(sandbox)
        run.isolation, run.weakened = record.isolation, record.weakened
        if run.on_file is not None:
            for path, data in record.files.items():
                run.on_file(call.name, path, bytes(data))
        if run.past_deadline and status.reason is Reason.CANCELLED:
            message = f"the task's activeDeadlineSeconds of {call.spec.active_deadline_seconds} passed"
            return status.model_copy(
                update={"reason": Reason.DEADLINE_EXCEEDED, "phase": Phase.FAILED, "message": message}
            )
        return status

    # --- a chain ---

    async def _chain(self, run: _Run) -> AgentTask:
        steps = {step.name: step for step in run.task.spec.steps}
        finished: dict[str, StepOutcome] = {}
        running: dict[str, asyncio.Task[ExecutionStatus]] = {}
        try:
            while True:
                decision = next_steps(run.task.spec, finished, tuple(running))
                if run.stopped is not None:
                    if not running:
                        return self._finished(run, run.stopped, "the task was ended before its last step")
                    decision = ChainDecision()
                if decision.finished:
                    return self._finished(run, decision.reason, decision.message)
                for name in decision.ready:
                    work = self._step(run, steps[name], finished)
                    running[name] = asyncio.get_running_loop().create_task(work)
                await asyncio.wait(running.values(), return_when=asyncio.FIRST_COMPLETED)
                for name in [name for name, task in running.items() if task.done()]:
                    finished[name] = StepOutcome.of(running.pop(name).result())
        finally:
            for task in running.values():
                task.cancel()

    async def _step(self, run: _Run, step: Step, finished: Mapping[str, StepOutcome]) -> ExecutionStatus:
        try:
            arguments = resolve_arguments(step, finished)
        except ReferenceProblem as problem:
            record = Record(step.name, step.tool, 1, datetime.now(UTC))
            status = record.refused(Reason.INVALID_ARGUMENTS, problem.message)
            run.executions.append(status)
            return status
        return await self._attempts(run, Call(step.name, step.tool, arguments, run.task.spec, step))

    # --- what ends a task from outside ---

    def _watch(self, run: _Run, cancel: asyncio.Event | None) -> Iterable["asyncio.Task[None]"]:
        loop = asyncio.get_running_loop()
        if cancel is not None:
            yield loop.create_task(self._on_cancel(run, cancel))
        if run.task.spec.active_deadline_seconds is not None:
            yield loop.create_task(self._on_deadline(run, run.task.spec.active_deadline_seconds))

    async def _on_cancel(self, run: _Run, cancel: asyncio.Event) -> None:
        await cancel.wait()
        run.cancelled = True
        await _cancel_all(run)

    async def _on_deadline(self, run: _Run, seconds: float) -> None:
        await asyncio.sleep(seconds)
        run.past_deadline = True
        await _cancel_all(run)

    # --- the status ---

    def _tell(self, run: _Run) -> None:
        """Say how a task stands that goes on."""
        if run.on_status is None or run.began is None:
            return
        began = time_text(run.began)
        newest = next(reversed(run.open.values()), None)
        status = AgentTaskStatus.model_construct(
            observed_generation=run.task.metadata.generation,
            conditions=_begun(began),
            phase=Phase.RUNNING,
            attempt=max([run.attempt, *(one.attempt for one in run.open.values())]),
            sandbox=newest.sandbox if newest is not None else None,
            executions=(*run.executions, *run.open.values()),
            start_time=began,
        )
        run.on_status(status)

    def _finished(self, run: _Run, reason: Reason | None, message: str | None) -> AgentTask:
        reason = reason or Reason.SANDBOX_FAILED
        now = time_text(datetime.now(UTC))
        if run.began is not None:
            conditions = _begun(time_text(run.began))
        elif reason is Reason.CANCELLED:
            conditions = (_condition("Accepted", True, "Accepted", "", now),)
        else:
            conditions = (_condition("Accepted", False, reason, message, now),)
        status = AgentTaskStatus.model_construct(
            observed_generation=run.task.metadata.generation,
            conditions=(*conditions, _condition("Finished", True, reason, message, now)),
            phase=phase_of(reason),
            reason=reason,
            message=message or None,
            attempt=run.attempt,
            sandbox=SandboxStatus.model_construct(
                backend=self._backend.name,
                pod_name=None,
                pod_uid=None,
                node=platform.node(),
                warm=run.warm,
                isolation=run.isolation,
                weakened=run.weakened,
            ),
            executions=tuple(run.executions),
            start_time=None if run.began is None else time_text(run.began),
            completion_time=now,
        )
        return run.task.model_copy(update={"status": status})


def _begun(began: str) -> tuple[Condition, ...]:
    """Return what is true of a task from the moment on at which it got its first sandbox."""
    return (
        _condition("Accepted", True, "Accepted", "", began),
        _condition("Started", True, "SandboxAssigned", "", began),
    )


async def _cancel_all(run: _Run) -> None:
    for sandbox in list(run.sandboxes):
        with contextlib.suppress(SandboxError):
            await sandbox.cancel()


def _condition(kind: str, is_true: bool, reason: str, message: str | None, now: str) -> Condition:  # noqa: FBT001
    return Condition.model_construct(
        type=kind,
        status=ConditionStatus.TRUE if is_true else ConditionStatus.FALSE,
        reason=str(reason),
        message=message or "",
        last_transition_time=now,
        observed_generation=None,
    )
