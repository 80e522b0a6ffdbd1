"""A plan in the making: the executions as they will stand, and what is to be done. Changed only within one look."""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from corral.api import (
    MAIN,
    AgentTaskSpec,
    ExecutionStatus,
    Phase,
    Reason,
    ReferenceProblem,
    SandboxStatus,
    StepOutcome,
    Timings,
    parse_duration,
    resolve_arguments,
    time_text,
)
from corral.api.references import find_references
from corral.artifacts.offload import shrunk
from corral.catalogue import ToolNotFoundError, normalise
from corral.catalogue.tool_versions import version_of_tool
from corral.cluster.port import ObjectKey
from corral.sandbox.plan import Abilities, Call, Planned, Refusal, plan
from corral.sandbox.port import Owner
from corral_operator.decisions import status as statuses
from corral_operator.decisions.actions import Action, CreatePod, DeletePod, Keep, Tell, Waiting
from corral_operator.decisions.bounds import fit, fits, refused, short, trim
from corral_operator.decisions.observed import Kept, Observed, Rules
from corral_operator.decisions.pod_failure import PodFailure, pod_gone
from corral_operator.decisions.task_view import TaskView
from corral_operator.names import cold_pod_name
from corral_operator.views import PodView

#: A task that waits this long is told so in its status; before, the write would cost more than it says.
_SAY_AFTER = timedelta(seconds=3)
#: A sandbox that its node refused or could not start is replaced, until so many were made for an execution.
_MOST_PODS = 3
_REPLACED_AFTER_SECONDS = 1.0
_ABILITIES = Abilities(images=True, runtime_classes=True)
_WITH_STORE = replace(_ABILITIES, artifacts=True)

#: Why nothing more of a task may start: the reason, and the same in words.
Stopped = tuple[Reason, str]


@dataclass(slots=True)
class Draft:
    """One look at one task."""

    task: TaskView
    observed: Observed
    now: datetime
    rules: Rules
    #: By name, in the order in which they began.
    executions: dict[str, ExecutionStatus] = field(default_factory=dict)
    actions: list[Action] = field(default_factory=list)
    claims: list[tuple[str, ObjectKey]] = field(default_factory=list)
    #: Names of the pools of those, by execution.
    pools: dict[str, str] = field(default_factory=dict)
    waiting: list[Waiting] = field(default_factory=list)
    wake: datetime | None = None
    retry_after: int | None = None
    #: Tools that have to be asked for before anything can be decided.
    unheard: set[str] = field(default_factory=set)

    def wake_at(self, moment: datetime) -> None:
        """Look again then, if nothing happens before."""
        self.wake = moment if self.wake is None else min(self.wake, moment)

    # --- what is asked ---

    def stopped(self) -> Stopped | None:
        """Say why nothing more may start, None while it may."""
        spec = self.task.spec
        if self.task.cancel:
            return Reason.CANCELLED, "spec.cancel was set"
        if spec is None or spec.active_deadline_seconds is None:
            return None
        deadline = self.task.created + timedelta(seconds=spec.active_deadline_seconds)
        if self.now < deadline:
            self.wake_at(deadline)
            return None
        seconds = spec.active_deadline_seconds
        return Reason.DEADLINE_EXCEEDED, f"the task's activeDeadlineSeconds of {seconds} passed"

    def call(self, spec: AgentTaskSpec, name: str) -> Call | None:
        """Return the call of an execution that has begun; None if its spec no longer has it."""
        if not spec.steps:
            return Call(MAIN, spec.tool or "", spec.arguments, spec) if name == MAIN else None
        step = next((step for step in spec.steps if step.name == name), None)
        if step is None:
            return None
        try:
            return Call(name, step.tool, resolve_arguments(step, self.finished()), spec, step)
        except ReferenceProblem:
            return None

    def planned(self, call: Call, attempt: int) -> Planned | Refusal:
        """Say what will be executed for a call, or why nothing."""
        return plan(
            call,
            self.owner(call.name, attempt),
            catalogue=self.rules.catalogue,
            policy=self.rules.policy,
            secrets={},
            abilities=_WITH_STORE if self.rules.settings.artifacts_url else _ABILITIES,
            check=self.rules.check,
        )

    def has_heard_of(self, name: str) -> bool:
        """Whether a tool is known as it was when the task was let in, or newer; if not, it has to be asked for."""
        tool = normalise(name)
        if tool in self.observed.looked_up:
            return True
        known = self.rules.catalogue.find(tool)
        if known is not None and version_of_tool(known) >= self.task.tool_versions.get(tool, 0):
            return True
        self.unheard.add(tool)
        return False

    def owner(self, execution: str, attempt: int) -> Owner:
        """Return whom a sandbox serves that runs this attempt."""
        return Owner(f"{self.task.key.uid}/{execution}", attempt)

    def is_gone(self, pod: str) -> bool:
        """Whether it is known that a pod that is not seen does not exist any more."""
        return pod in self.observed.absent or pod in self.observed.last_seen

    def gone(self, sandbox: SandboxStatus) -> PodFailure:
        """Say why a sandbox's pod does not exist any more."""
        name = sandbox.pod_name or ""
        return pod_gone(name, sandbox.node, self.observed.last_seen.get(name))

    # --- executions ---

    def begin(self, name: str, tool: str, attempt: int, queued: datetime) -> ExecutionStatus:
        """Add an attempt that has no sandbox yet."""
        timings = Timings.model_construct(queued=time_text(queued), claimed=None, started=None, finished=None)
        execution = ExecutionStatus(
            name=name, tool=tool, attempt=attempt, phase=Phase.PENDING, timings=timings
        )
        self.executions[name] = execution
        return execution

    def finished(self) -> dict[str, StepOutcome]:
        """Return how the executions ended that have."""
        return {
            name: StepOutcome.of(execution)
            for name, execution in self.executions.items()
            if execution.reason is not None
        }

    def open(self) -> list[str]:
        """Return the executions that have begun and have not ended."""
        return [name for name, execution in self.executions.items() if execution.reason is None]

    def cold_pod(self, execution: ExecutionStatus) -> str:
        """Return the name of the pod that is made for this attempt, if one is."""
        return cold_pod_name(self.task.key.name, self.task.key.uid, execution.name, execution.attempt)

    def queued_at(self, execution: ExecutionStatus) -> datetime:
        """Return when an attempt began to wait, or, before a retry, when it may begin."""
        text = execution.timings.queued if execution.timings is not None else None
        return self.now if text is None else datetime.fromisoformat(text)

    def say(self, execution: ExecutionStatus, message: str) -> None:
        """Tell people what an execution waits for, once it has waited long enough for somebody to wonder."""
        say_at = self.queued_at(execution) + _SAY_AFTER
        if self.now < say_at:
            self.wake_at(say_at)
        elif execution.message != message:
            self.executions[execution.name] = execution.model_copy(update={"message": message})

    # --- ends ---

    def refuse(
        self,
        execution: ExecutionStatus,
        reason: Reason,
        message: str,
        *,
        field: str | None = None,
        rule: str | None = None,
    ) -> None:
        """End an execution for what the task is; trying again would change nothing."""
        self.executions[execution.name] = statuses.ended(
            execution, reason, message, self.now, field=field, rule=rule
        )
        # What this look had in mind for it is not done.
        self.waiting = [one for one in self.waiting if one.execution != execution.name]
        self.actions = [
            one
            for one in self.actions
            if not (isinstance(one, CreatePod) and one.execution == execution.name)
        ]
        self.drop_cold_pod(execution)

    def fail(self, execution: ExecutionStatus, failure: PodFailure) -> None:
        """End an execution for what became of its pod."""
        self.end(
            execution,
            failure.reason,
            failure.message,
            ran=failure.ran,
            elsewhere=failure.elsewhere,
            field=failure.field,
        )

    def end(
        self,
        execution: ExecutionStatus,
        reason: Reason,
        message: str,
        *,
        ran: bool | None,
        elsewhere: bool = False,
        field: str | None = None,
    ) -> None:
        """End an execution from outside.

        Args:
            execution: as it stands.
            reason: of its end.
            message: the same in words.
            ran: whether the tool may have begun; None: not known.
            elsewhere: see ``PodFailure``.
            field: of the task that is to blame.
        """
        ended = statuses.ended(execution, reason, message, self.now, field=field)
        sandbox = execution.sandbox
        pod = self.observed.pods.get((sandbox.pod_name or "") if sandbox is not None else "")
        if pod is not None and sandbox is not None and sandbox.pod_uid not in {None, pod.key.uid}:
            pod = None  # another one by now
        if pod is not None:
            self.delete_pod(pod)
        self.finish(ended, ran=False if sandbox is None else ran, pod=None, elsewhere=elsewhere)

    def finish(
        self,
        execution: ExecutionStatus,
        *,
        ran: bool | None,
        pod: PodView | None,
        idle: bool = False,
        elsewhere: bool = False,
    ) -> None:
        """Record how an attempt ended, or begin the next one where that is safe and the task asks for it.

        Where nothing but a sandbox was lost, it does not have to ask.

        Args:
            execution: ended.
            ran: whether the tool may have begun; None: not known.
            pod: that it ended in, and that is not needed any more; None: that was seen to already.
            idle: the pod runs nothing any more; see ``DeletePod``.
            elsewhere: see ``PodFailure``.
        """
        again_at = self._retry_at(execution, may_have_run=ran is not False, elsewhere=elsewhere)
        if again_at is None and not self._record(execution):
            return  # the pod has what the status has not
        if pod is not None:
            self.delete_pod(pod, idle=idle)
        if again_at is None:
            return
        following = self.begin(execution.name, execution.tool, execution.attempt + 1, again_at)
        message = f"attempt {execution.attempt} ended with {execution.reason}: {short(execution.message)}"
        self.executions[execution.name] = following.model_copy(update={"message": message})
        self.actions.append(Tell("Warning", "Retrying", message))
        self.wake_at(again_at)

    def _record(self, execution: ExecutionStatus) -> bool:
        """Put an ended execution among the others; False: what there is no room for is stored before."""
        settings = self.rules.settings
        others = [other for name, other in self.executions.items() if name != execution.name]
        if settings.artifacts_url is None:
            self.executions[execution.name] = fit(execution, others, settings, self.now)
            return True
        trimmed = trim(execution, settings, self.now)
        if fits((*others, trimmed), settings):
            self.executions[execution.name] = trimmed
            return True
        contents: dict[str, bytes] = {}
        smaller = shrunk(
            (*others, trimmed),
            contents,
            lambda now: fits(now, settings),
            needed=self._needed_results(execution.name),
        )
        kept = self.observed.kept.get(execution.name, Kept())
        if fits(smaller, settings) and not kept.problem:
            if not contents.keys() <= kept.names:
                self.actions.append(Keep(execution.name, execution.attempt, contents))
                return False
            self.executions |= {one.name: one for one in smaller}
            return True
        without = refused(trimmed, settings, self.now)
        if kept.problem and without.error is not None:
            message = f"{without.message}; {kept.problem}"
            error = without.error.model_copy(update={"type": kept.problem_type, "message": message})
            without = without.model_copy(update={"message": message, "error": error})
        self.executions[execution.name] = without
        return True

    def _needed_results(self, ends: str) -> frozenset[str]:
        """Return the steps whose results others may yet ask for, now that one more ends."""
        steps = self.task.spec.steps if self.task.spec is not None else ()
        over = {ends} | {name for name, execution in self.executions.items() if execution.reason is not None}
        waiting = [step for step in steps if step.name not in over]
        return frozenset(
            reference.name for step in waiting for _, reference in find_references(step.arguments)
        )

    def delete_pod(self, pod: PodView, *, idle: bool = False) -> None:
        """Take a pod away; see ``DeletePod``."""
        asked = any(isinstance(action, DeletePod) and action.pod == pod.key for action in self.actions)
        if not pod.deleting and not asked:
            self.actions.append(DeletePod(pod.key, idle))

    def drop_cold_pod(self, execution: ExecutionStatus) -> None:
        """Take the pod away that was made for an attempt, if there is one."""
        pod = self.observed.pods.get(self.cold_pod(execution))
        if pod is not None and pod.owner_uid == self.task.key.uid:
            self.delete_pod(pod)

    def _retry_at(
        self, execution: ExecutionStatus, *, may_have_run: bool, elsewhere: bool
    ) -> datetime | None:
        spec = self.task.spec
        if spec is None or self.stopped() is not None:
            return None
        if elsewhere and not may_have_run and execution.attempt < _MOST_PODS:
            return self.now + timedelta(seconds=_REPLACED_AFTER_SECONDS * 2 ** (execution.attempt - 1))
        retry = spec.retry
        if retry is None:
            return None
        if execution.attempt >= retry.max_attempts or execution.reason not in retry.reasons:
            return None
        if may_have_run and not self.is_idempotent(execution.tool):
            return None
        pause = parse_duration(retry.backoff) * 2 ** (execution.attempt - 1)
        return self.now + timedelta(seconds=pause)

    def is_idempotent(self, tool: str) -> bool:
        """Whether a tool may run twice where once is meant."""
        try:
            return self.rules.catalogue.get(tool).spec.idempotent
        except ToolNotFoundError:
            return False
