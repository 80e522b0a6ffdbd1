"""Runs a whole task on one backend: the tool or the chain, attempts, deadline, cancel, status."""

import asyncio
import contextlib
import platform
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime

from corral.api import (
    MAIN,
    AgentTask,
    ChainDecision,
    ExecutionError,
    ExecutionStatus,
    Frame,
    Phase,
    Reason,
    ReferenceProblem,
    SandboxStatus,
    Started,
    Step,
    StepOutcome,
    next_steps,
    parse_duration,
    resolve_arguments,
)
from corral.catalogue import Catalogue, validate_arguments, with_defaults
from corral.catalogue.checker import CheckerUnavailableError
from corral.client.secrets import SecretMissingError, SecretSource
from corral.client.task_run import CheckArguments, OnFile, OnFrame, OnStatus, TaskRun
from corral.policy import Policy
from corral.sandbox.errors import (
    ImageUnavailableError,
    IsolationUnavailableError,
    SandboxError,
    UnsupportedError,
)
from corral.sandbox.execution import ReadFile, Record, execute
from corral.sandbox.plan import DOCKER, EMBEDDED, Abilities, Call, Check, Planned, Refusal, plan
from corral.sandbox.port import Owner, SandboxBackend


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
        run = TaskRun(
            task,
            task.metadata.uid or str(uuid.uuid4()),
            self._backend.name,
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
                return run.finished(Reason.CANCELLED, "spec.cancel was set before it started")
            if cancel is not None and cancel.is_set():
                run.cancelled = True
                return run.finished(Reason.CANCELLED, "the task was cancelled before it started")
            if task.spec.agent is not None:
                message = "agent tasks need a gateway with a model provider; this client runs tools and steps"
                return run.finished(Reason.UNSUPPORTED, message)
            if task.spec.steps:
                return await self._chain(run)
            call = Call(MAIN, task.spec.tool or "", task.spec.arguments, task.spec)
            status = await self._attempts(run, call)
            return run.finished(status.reason, status.message)
        finally:
            for watcher in watchers:
                watcher.cancel()
            # Only left if this coroutine itself is being cancelled.
            for sandbox in run.sandboxes:
                sandbox.kill()

    # --- one tool ---

    async def _attempts(self, run: TaskRun, call: Call) -> ExecutionStatus:
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
        run.tell()
        return status

    async def _once(self, run: TaskRun, call: Call, attempt: int) -> ExecutionStatus:
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

    def _abilities(self, run: TaskRun) -> Abilities:
        abilities = DOCKER if self._backend.name == "docker" else EMBEDDED
        return replace(abilities, artifacts=run.read_file is not None)

    async def _checked(self, run: TaskRun, call: Call) -> Check:
        """Return what says what is wrong with a call's arguments: found out already, or done where it is asked."""
        if run.check is None:
            return validate_arguments
        while (tool := self._catalogue.find(call.tool)) is not None:
            problems = await run.check(tool, with_defaults(tool, call.arguments))
            # A tool that was replaced meanwhile has another schema: what runs is what was checked.
            if self._catalogue.find(call.tool) is tool:
                return lambda _tool, _arguments: problems
            if run.stopped is not None:
                return lambda _tool, _arguments: ()  # nothing of it starts any more
        return validate_arguments  # nobody is asked: the call is refused for want of a tool

    async def _in_sandbox(
        self, run: TaskRun, call: Call, planned: Planned, record: Record
    ) -> ExecutionStatus:
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
        run.tell()

        def hear(frame: Frame) -> None:
            if isinstance(frame, Started):
                run.open[call.name] = record.running(claimed)
                run.tell()
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

    async def _chain(self, run: TaskRun) -> AgentTask:
        steps = {step.name: step for step in run.task.spec.steps}
        finished: dict[str, StepOutcome] = {}
        running: dict[str, asyncio.Task[ExecutionStatus]] = {}
        try:
            while True:
                decision = next_steps(run.task.spec, finished, tuple(running))
                if run.stopped is not None:
                    if not running:
                        return run.finished(run.stopped, "the task was ended before its last step")
                    decision = ChainDecision()
                if decision.finished:
                    return run.finished(decision.reason, decision.message)
                for name in decision.ready:
                    work = self._step(run, steps[name], finished)
                    running[name] = asyncio.get_running_loop().create_task(work)
                await asyncio.wait(running.values(), return_when=asyncio.FIRST_COMPLETED)
                for name in [name for name, task in running.items() if task.done()]:
                    finished[name] = StepOutcome.of(running.pop(name).result())
        finally:
            for task in running.values():
                task.cancel()

    async def _step(self, run: TaskRun, step: Step, finished: Mapping[str, StepOutcome]) -> ExecutionStatus:
        try:
            arguments = resolve_arguments(step, finished)
        except ReferenceProblem as problem:
            record = Record(step.name, step.tool, 1, datetime.now(UTC))
            status = record.refused(Reason.INVALID_ARGUMENTS, problem.message)
            run.executions.append(status)
            return status
        return await self._attempts(run, Call(step.name, step.tool, arguments, run.task.spec, step))

    # --- what ends a task from outside ---

    def _watch(self, run: TaskRun, cancel: asyncio.Event | None) -> Iterable["asyncio.Task[None]"]:
        loop = asyncio.get_running_loop()
        if cancel is not None:
            yield loop.create_task(self._on_cancel(run, cancel))
        if run.task.spec.active_deadline_seconds is not None:
            yield loop.create_task(self._on_deadline(run, run.task.spec.active_deadline_seconds))

    async def _on_cancel(self, run: TaskRun, cancel: asyncio.Event) -> None:
        await cancel.wait()
        run.cancelled = True
        await _cancel_all(run)

    async def _on_deadline(self, run: TaskRun, seconds: float) -> None:
        await asyncio.sleep(seconds)
        run.past_deadline = True
        await _cancel_all(run)


async def _cancel_all(run: TaskRun) -> None:
    for sandbox in list(run.sandboxes):
        with contextlib.suppress(SandboxError):
            await sandbox.cancel()
