"""What to do about a task now. Pure: the task, what is observed, the time, and the rules in; a plan out.

Level-based: every look starts from what stands in the status and what exists, whatever happened before. The order
of things that makes an execution start at most once: the status names the sandbox first; only then is the
sandbox's runner told to start, and it takes one owner in its life.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from math import ceil
from typing import Any

from corral.api import (
    AgentTaskSpec,
    AgentTaskStatus,
    Condition,
    ExecutionOutput,
    ExecutionStatus,
    NetworkMode,
    Phase,
    Reason,
    ReferenceProblem,
    SandboxStatus,
    Step,
    StepOutcome,
    Timings,
    next_steps,
    parse_duration,
    resolve_arguments,
)
from corral.catalogue import ToolNotFoundError
from corral.sandbox.plan import Abilities, Call, Planned, plan
from corral.sandbox.plan import Refusal as CallRefusal
from corral.sandbox.port import Owner
from corral_operator.decisions import status as statuses
from corral_operator.decisions.actions import (
    Action,
    Cancel,
    CreatePod,
    DeletePod,
    Plan,
    Program,
    Resize,
    Start,
    Tell,
    Waiting,
)
from corral_operator.decisions.bounds import fit
from corral_operator.decisions.match import Ask, ChoiceKind, choose
from corral_operator.decisions.observed import Observed, Rules, RunView
from corral_operator.decisions.plain_result import plain_result
from corral_operator.decisions.pod_failure import PodFailure, pod_failure, pod_gone
from corral_operator.decisions.program_output import with_program_result
from corral_operator.decisions.sizes import SandboxSize
from corral_operator.decisions.task_view import TaskView
from corral_operator.names import cold_pod_name
from corral_operator.views import ObjectKey, PodView

#: A task of one tool has one execution, called so.
MAIN = "main"
#: A task that waits this long is told so in its status; before, the write would cost more than it says.
_SAY_AFTER = timedelta(seconds=3)
#: What became of a pod is often known only some time after its runner fell silent: a node counts as lost after
#: about 50 s.
_LOST_PATIENCE = timedelta(seconds=120)
#: A cancelled tool has this long to end by itself; then its pod is taken away.
_CANCEL_PATIENCE = timedelta(seconds=10)
#: A queue moves often; people read its position now and then.
_POSITION_EVERY = timedelta(seconds=5)
#: Ends that say that the task itself was not accepted: nothing of it can ever run as it stands.
_NOT_ACCEPTED = frozenset(
    {
        Reason.INVALID_SPEC,
        Reason.INVALID_ARGUMENTS,
        Reason.TOOL_NOT_FOUND,
        Reason.PERMISSION_DENIED,
        Reason.UNSUPPORTED,
        Reason.QUOTA_EXCEEDED,
    }
)
#: In ``weakened`` of a sandbox: the image has no runner, so none of what the runner holds holds.
RUNNER = "runner"
_ABILITIES = Abilities(images=True, runtime_classes=True)


def decide(task: TaskView, observed: Observed, now: datetime, rules: Rules) -> Plan:
    """Say what to do about a task that has not ended.

    Args:
        task: as it stands.
        observed: pods, runners and pools at this moment.
        now: the time.
        rules: settings, policy, tools.
    """
    if task.deleting:
        return Plan()  # its pods go by their owner, or by whoever follows them, once it is gone
    if task.status_problem:
        message = f"somebody wrote a status that cannot be read ({task.status_problem}); nothing is started"
        return Plan(actions=(Tell("Warning", "StatusBroken", message),))
    return _Decision(task, observed, now, rules).plan()


@dataclass(slots=True)
class _Decision:
    task: TaskView
    observed: Observed
    now: datetime
    rules: Rules
    #: By name, in the order in which they began.
    executions: dict[str, ExecutionStatus] = field(default_factory=dict)
    actions: list[Action] = field(default_factory=list)
    claims: list[tuple[str, ObjectKey]] = field(default_factory=list)
    waiting: list[Waiting] = field(default_factory=list)
    wake: datetime | None = None
    retry_after: int | None = None

    def plan(self) -> Plan:
        self.executions = {execution.name: execution for execution in self.task.status.executions}
        spec = self.task.spec
        if spec is None:
            return self._end_task(Reason.INVALID_SPEC, self.task.problem)
        if spec.agent is not None:
            message = (
                "agent tasks are worked off by a gateway with a model provider; this operator runs tools"
            )
            return self._end_task(Reason.UNSUPPORTED, message)
        stopped = self._stopped(spec)
        for name in list(self.executions):
            self._advance(spec, name, stopped)
        end = self._stop(stopped) if stopped else self._go_on(spec)
        if end is not None:
            return self._end_task(*end)
        return self._plan(self._unfinished())

    # --- what ends a task from outside ---

    def _stopped(self, spec: AgentTaskSpec) -> tuple[Reason, str] | None:
        if self.task.cancel:
            return Reason.CANCELLED, "spec.cancel was set"
        if spec.active_deadline_seconds is None:
            return None
        deadline = self.task.created + timedelta(seconds=spec.active_deadline_seconds)
        if self.now < deadline:
            self._wake_at(deadline)
            return None
        seconds = spec.active_deadline_seconds
        return Reason.DEADLINE_EXCEEDED, f"the task's activeDeadlineSeconds of {seconds} passed"

    def _stop(self, stopped: tuple[Reason, str]) -> tuple[Reason, str] | None:
        """Nothing more starts; the task ends when what runs has ended."""
        reason, message = stopped
        for name, execution in self.executions.items():
            if execution.reason is None and not self._assigned(execution):
                self.executions[name] = statuses.ended(execution, reason, message, self.now)
                self._drop_cold_pod(execution)
        return None if self._running() else stopped

    # --- the tool, or the chain ---

    def _go_on(self, spec: AgentTaskSpec) -> tuple[Reason, str] | None:
        """Begin what may begin now. Returns how the task ends, None while it does not."""
        if not spec.steps:
            if MAIN not in self.executions:
                self._begin(spec, Call(MAIN, spec.tool or "", spec.arguments, spec))
            main = self.executions[MAIN]
            return None if main.reason is None else (main.reason, main.message or "")
        steps = {step.name: step for step in spec.steps}
        while True:
            finished = self._finished()
            decision = next_steps(spec, finished, self._open())
            if decision.finished:
                assert decision.reason is not None
                return decision.reason, decision.message
            for name in decision.ready:
                self._begin_step(spec, steps[name], finished)
            if not any(self.executions[name].reason for name in decision.ready):
                return None  # a step that was refused at once may have been what others waited for

    def _begin_step(self, spec: AgentTaskSpec, step: Step, finished: dict[str, StepOutcome]) -> None:
        try:
            arguments = resolve_arguments(step, finished)
        except ReferenceProblem as problem:
            execution = self._new(step.name, step.tool, 1, self.now)
            self.executions[step.name] = statuses.ended(
                execution, Reason.INVALID_ARGUMENTS, problem.message, self.now
            )
            return
        self._begin(spec, Call(step.name, step.tool, arguments, spec, step))

    def _call(self, spec: AgentTaskSpec, name: str) -> Call | None:
        """The call of an execution that has begun; None if its spec no longer has it."""
        if not spec.steps:
            return Call(MAIN, spec.tool or "", spec.arguments, spec)
        step = next((step for step in spec.steps if step.name == name), None)
        if step is None:
            return None
        try:
            return Call(name, step.tool, resolve_arguments(step, self._finished()), spec, step)
        except ReferenceProblem:
            return None

    def _begin(self, spec: AgentTaskSpec, call: Call) -> None:
        queued = self.observed.seen if not self.executions else self.now
        self.executions[call.name] = self._new(call.name, call.tool, 1, queued)
        self._place(spec, call)

    # --- one execution ---

    def _advance(self, spec: AgentTaskSpec, name: str, stopped: tuple[Reason, str] | None) -> None:
        execution = self.executions[name]
        if execution.reason is not None:
            return
        if self._assigned(execution):
            self._look_at_run(spec, execution, stopped)
            execution = self.executions[name]
        if execution.reason is None and not self._assigned(execution) and stopped is None:
            call = self._call(spec, name)
            if call is None:
                self._end(execution, Reason.SANDBOX_FAILED, "its step is no longer in the spec", ran=False)
            else:
                self._place(spec, call)

    def _place(self, spec: AgentTaskSpec, call: Call) -> None:
        """Find a sandbox for an execution that has none."""
        execution = self.executions[call.name]
        not_before = _time(execution.timings.queued if execution.timings else None)
        if not_before is not None and not_before > self.now:
            self._wake_at(not_before)
            return
        planned = self._planned(call, execution)
        if isinstance(planned, CallRefusal):
            error = planned.error
            self._refuse(execution, planned.reason, planned.message, field=error.field, rule=error.rule)
            return
        name = cold_pod_name(self.task.key.name, self.task.key.uid, call.name, execution.attempt)
        pod = self.observed.pods.get(name)
        refusal = self.observed.refusals.get(call.name)
        program = self._program(call, planned)
        if pod is not None:
            self._look_at_cold_pod(execution, planned, pod)
        elif refusal is not None:
            self.retry_after = refusal.retry_after_seconds
            self._end(execution, refusal.reason, refusal.message, ran=False, field=refusal.field)
        elif call.name in self.observed.made:
            message = f"the pod {name} was deleted before anything ran in it"
            self._end(execution, Reason.SANDBOX_FAILED, message, ran=False)
        elif program is not None:
            self._run_program(spec, execution, planned, name, program)
        else:
            self._choose(spec, execution, planned, name)

    def _choose(
        self, spec: AgentTaskSpec, execution: ExecutionStatus, planned: Planned, cold_name: str
    ) -> None:
        size = SandboxSize.of(planned.request.limits)
        namespace = self.task.key.namespace
        choice = choose(
            self.observed.pools,
            Ask(
                size=size,
                image=planned.needs.image,
                runtime_class=spec.runtime_class_name,
                network=spec.network.mode if spec.network is not None else NetworkMode.NONE,
                needs_secrets=bool(spec.secret_refs),
            ),
            late_secrets=namespace in self.rules.settings.late_secrets
            or "*" in self.rules.settings.late_secrets,
            taken=frozenset(pod.uid for _, pod in self.claims),
        )
        if choice.kind in {ChoiceKind.WARM, ChoiceKind.RESIZE}:
            assert choice.pod is not None
            resized = choice.kind is ChoiceKind.RESIZE
            self.claims.append((execution.name, choice.pod.key))
            self._assign(execution, choice.pod, warm=True, resized=resized)
            if resized:
                self.actions.append(Resize(execution.name, choice.pod.key, size))
            self._start(execution, choice.pod.key, planned)
        elif choice.kind is ChoiceKind.COLD:
            self.actions.append(
                CreatePod(
                    execution.name,
                    execution.attempt,
                    cold_name,
                    size,
                    image=planned.needs.image,
                    runtime_class=spec.runtime_class_name,
                )
            )
            self._say(execution, f"a pod of its own is starting ({choice.why})")
        elif choice.kind is ChoiceKind.QUEUE:
            assert choice.pool is not None
            self.waiting.append(Waiting(execution.name, choice.pool))
            position = self.observed.positions.get(execution.name)
            place = "" if position is None else f", position {position}"
            self._say(execution, f"waits for a sandbox of pool {choice.pool}{place}")
        else:
            self.retry_after = choice.retry_after_seconds
            self._refuse(execution, Reason.QUOTA_EXCEEDED, choice.why, field=None, rule="whenEmpty")

    def _look_at_cold_pod(self, execution: ExecutionStatus, planned: Planned, pod: PodView) -> None:
        settings = self.rules.settings
        if pod.owner_uid != self.task.key.uid:
            message = f"a pod called {pod.key.name} is there and belongs to somebody else"
            self._end(execution, Reason.SANDBOX_FAILED, message, ran=False)
            return
        patience = timedelta(seconds=settings.pod_start_seconds)
        failure = pod_failure(pod, self.now, patience)
        if failure is not None:
            self.actions.append(DeletePod(pod.key))
            self._fail(execution, replace(failure, ran=False))
        elif pod.ip and pod.container.running:
            self._assign(execution, pod, warm=False)
            self._start(execution, pod.key, planned)
        elif self.now - pod.created > patience:
            self.actions.append(DeletePod(pod.key))
            message = f"its pod was not running after {settings.pod_start_seconds:g} s"
            self._end(execution, Reason.SANDBOX_FAILED, message, ran=False)
        else:
            self._wake_at(pod.created + patience)
            why = pod.scheduling_message or pod.container.waiting_message or pod.container.waiting or ""
            self._say(execution, f"its pod {pod.key.name} is starting{f': {why}' if why else ''}")

    def _assign(self, execution: ExecutionStatus, pod: PodView, *, warm: bool, resized: bool = False) -> None:
        timings = (execution.timings or Timings()).model_copy(
            update={"claimed": statuses.time_text(self.now)}
        )
        self.executions[execution.name] = execution.model_copy(
            update={
                "phase": Phase.RUNNING,
                "message": None,
                "timings": timings,
                "sandbox": SandboxStatus.model_construct(
                    backend="kubernetes",
                    pod_name=pod.key.name,
                    pod_uid=pod.key.uid,
                    node=pod.node,
                    warm=warm,
                    resized=True if resized else None,
                    isolation=(),
                    weakened=(),
                ),
            }
        )

    def _start(self, execution: ExecutionStatus, pod: ObjectKey, planned: Planned | None) -> None:
        owner = Owner(f"{self.task.key.uid}/{execution.name}", execution.attempt)
        self.actions.append(Start(execution.name, pod, owner, None if planned is None else planned.request))

    def _look_at_run(
        self, spec: AgentTaskSpec, execution: ExecutionStatus, stopped: tuple[Reason, str] | None
    ) -> None:
        """Look at an execution whose sandbox stands in the status."""
        sandbox = execution.sandbox
        assert sandbox is not None
        pod = self.observed.pods.get(sandbox.pod_name or "")
        if pod is not None and sandbox.pod_uid is not None and pod.key.uid != sandbox.pod_uid:
            pod = None
        call = self._call(spec, execution.name)
        planned = None if call is None else self._planned(call, execution)
        program = self._program(call, planned) if call is not None and isinstance(planned, Planned) else None
        if program is not None and isinstance(planned, Planned):
            self._look_at_program(execution, planned, program, pod, stopped)
            return
        run = self.observed.runs.get(execution.name)
        if run is None:
            if pod is None:
                self._fail(execution, self._gone(sandbox))
                return
            self._start(execution, pod.key, planned if isinstance(planned, Planned) else None)
        elif run.never_started is not None:
            self._not_started(execution, run, pod)
        elif run.ended is not None:
            self._take(execution, run, pod, stopped)
        elif run.lost is not None:
            self._look_for_cause(execution, run, pod, stopped)
        elif stopped is not None:
            self._ask_to_end(execution, run, pod)

    def _ask_to_end(self, execution: ExecutionStatus, run: RunView, pod: PodView | None) -> None:
        if run.cancelled_at is None:
            self.actions.append(Cancel(execution.name))
            self._wake_at(self.now + _CANCEL_PATIENCE)
        elif pod is not None and not pod.deleting:
            if self.now - run.cancelled_at >= _CANCEL_PATIENCE:
                self.actions.append(DeletePod(pod.key))
            else:
                self._wake_at(run.cancelled_at + _CANCEL_PATIENCE)

    def _not_started(self, execution: ExecutionStatus, run: RunView, pod: PodView | None) -> None:
        """A waiting sandbox turned out to be used: it goes, and the execution takes another."""
        if pod is not None:
            self.actions.append(DeletePod(pod.key))
        warm = execution.sandbox is not None and execution.sandbox.warm
        if not warm:
            self._end(execution, Reason.SANDBOX_FAILED, run.never_started or "", ran=False)
            return
        self.executions[execution.name] = execution.model_copy(
            update={"phase": Phase.PENDING, "sandbox": None}
        )

    def _take(
        self,
        execution: ExecutionStatus,
        run: RunView,
        pod: PodView | None,
        stopped: tuple[Reason, str] | None,
    ) -> None:
        """Take a result in."""
        assert run.ended is not None
        assert execution.sandbox is not None
        result = run.ended
        if result.reason is Reason.CANCELLED and stopped is None:
            # Nobody cancelled: the pod is being taken away, and its runner ended the tool in time to say so.
            failure = (pod and pod_failure(pod, self.now, timedelta(0))) or self._gone(execution.sandbox)
            partial = result.model_copy(update={"reason": None})
            self._fail(partial.model_copy(update={"sandbox": execution.sandbox}), replace(failure, ran=True))
            return
        if result.reason is Reason.CANCELLED and stopped is not None and stopped[0] is not Reason.CANCELLED:
            result = statuses.ended(result, *stopped, self.now)
        sandbox = execution.sandbox.model_copy(update={"isolation": run.isolation, "weakened": run.weakened})
        assert result.reason is not None
        self._finish(result.model_copy(update={"sandbox": sandbox}), ran=run.began, pod=pod)

    def _look_for_cause(
        self,
        execution: ExecutionStatus,
        run: RunView,
        pod: PodView | None,
        stopped: tuple[Reason, str] | None,
    ) -> None:
        """The runner was lost without a word: what became of its pod is the reason."""
        assert execution.sandbox is not None
        if stopped is not None:
            self._end(execution, *stopped, ran=True)
            return
        if pod is None:
            self._fail(execution, self._gone(execution.sandbox))
            return
        failure = pod_failure(pod, self.now, _LOST_PATIENCE)
        if failure is not None:
            self._fail(execution, failure)
            return
        since = run.lost_at or self.now
        if self.now - since >= _LOST_PATIENCE:
            self.actions.append(DeletePod(pod.key))
            message = f"the runner in pod {pod.key.name} on node {pod.node} was lost: {run.lost}"
            self._end(execution, Reason.SANDBOX_FAILED, message, ran=None)
        else:
            self._wake_at(since + _LOST_PATIENCE)

    # --- a program in an image without a runner ---

    def _program(self, call: Call, planned: Planned) -> Program | None:
        """The program, where the tool's image has no runner."""
        try:
            command = self.rules.catalogue.get(call.tool).spec.run.command
        except ToolNotFoundError:
            return None
        if command is None or command.image is None or command.has_runner:
            return None
        settings, request = self.rules.settings, planned.request
        return Program(
            argv=tuple(request.run["command"]),
            env=tuple(sorted(request.env.items())),
            deadline_seconds=ceil(request.limits.wall_seconds + settings.pod_start_seconds),
        )

    def _program_problem(self, spec: AgentTaskSpec, planned: Planned) -> tuple[str, str] | None:
        """What needs a runner, by field and message."""
        needs = "needs Corral's runner, which the tool's image does not have (run.command.hasRunner)"
        if self.rules.policies_enforced is False:
            return "spec.tool", (
                "the tool's image has no runner, and nobody in this cluster enforces NetworkPolicies: "
                "nothing would keep it from the network"
            )
        for asked, name in (
            (spec.files, "spec.files"),
            (spec.outputs, "spec.outputs"),
            (planned.request.run.get("stdin"), "spec.tool"),
            (spec.allowed_paths not in {(), (".",)}, "spec.allowedPaths"),
            (planned.request.limits.idle_seconds is not None, "spec.limits.idleTimeout"),
        ):
            if asked:
                what = "standard input" if name == "spec.tool" else name
                return name, f"{what} {needs}"
        return None

    def _run_program(
        self, spec: AgentTaskSpec, execution: ExecutionStatus, planned: Planned, name: str, program: Program
    ) -> None:
        problem = self._program_problem(spec, planned)
        if problem is not None:
            self._refuse(execution, Reason.UNSUPPORTED, problem[1], field=problem[0], rule=None)
            return
        timings = (execution.timings or Timings()).model_copy(
            update={"claimed": statuses.time_text(self.now)}
        )
        # The kubelet starts the program as soon as there is a pod, so the status names the pod before there is one.
        sandbox = SandboxStatus.model_construct(
            backend="kubernetes",
            pod_name=name,
            pod_uid=None,
            node=None,
            warm=False,
            resized=None,
            isolation=("pidns", "mountns", "netns", "ipcns", "utsns", "cgroup", "networkpolicy"),
            weakened=(RUNNER,),
        )
        self.executions[execution.name] = execution.model_copy(
            update={"phase": Phase.RUNNING, "timings": timings, "sandbox": sandbox}
        )
        self._create_program_pod(execution, planned, name, program)

    def _create_program_pod(
        self, execution: ExecutionStatus, planned: Planned, name: str, program: Program
    ) -> None:
        assert self.task.spec is not None
        self.actions.append(
            CreatePod(
                execution.name,
                execution.attempt,
                name,
                SandboxSize.of(planned.request.limits),
                image=planned.needs.image,
                runtime_class=self.task.spec.runtime_class_name,
                program=program,
            )
        )

    def _look_at_program(
        self,
        execution: ExecutionStatus,
        planned: Planned,
        program: Program,
        pod: PodView | None,
        stopped: tuple[Reason, str] | None,
    ) -> None:
        sandbox = execution.sandbox
        assert sandbox is not None
        refusal = self.observed.refusals.get(execution.name)
        if refusal is not None:
            self._end(execution, refusal.reason, refusal.message, ran=False, field=refusal.field)
            return
        if pod is None and sandbox.pod_uid is None and execution.name not in self.observed.made:
            # The status says that it is to be made, and nobody knows whether it was: its name can exist but once
            # while it does, and a task's pod that is gone again was deleted by somebody.
            if stopped is not None:
                self._end(execution, *stopped, ran=False)
            else:
                self._create_program_pod(execution, planned, sandbox.pod_name or "", program)
            return
        if pod is None:
            gone = self._gone(sandbox)
            self._end(execution, *stopped, ran=None) if stopped else self._fail(execution, gone)
            return
        if sandbox.pod_uid is None and pod.container.running:
            sandbox = sandbox.model_copy(update={"pod_uid": pod.key.uid, "node": pod.node})
            execution = execution.model_copy(update={"sandbox": sandbox})
            self.executions[execution.name] = execution
        wall = timedelta(seconds=planned.request.limits.wall_seconds)
        if stopped is not None:
            self._end(execution, *stopped, ran=True)
            self.actions.append(DeletePod(pod.key))
        elif pod.container.terminated is not None:
            self._take_program(execution, planned, pod)
        elif (
            pod.container.running
            and pod.container.started_at
            and (self.now >= pod.container.started_at + wall)
        ):
            self._end(
                execution, Reason.DEADLINE_EXCEEDED, f"it ran longer than limits.timeout ({wall})", ran=True
            )
            self.actions.append(DeletePod(pod.key))
        elif pod.container.running and pod.container.started_at:
            self._wake_at(pod.container.started_at + wall)
        else:
            patience = timedelta(seconds=self.rules.settings.pod_start_seconds)
            failure = pod_failure(pod, self.now, patience)
            if failure is not None:
                self.actions.append(DeletePod(pod.key))
                self._fail(execution, failure)
            else:
                self._wake_at(pod.created + patience)

    def _take_program(self, execution: ExecutionStatus, planned: Planned, pod: PodView) -> None:
        text = self.observed.logs.get(execution.name)
        if text is None:
            return  # the log is read before the next look
        result = plain_result(pod)
        if result is None:
            failure = pod_failure(pod, self.now, timedelta(0)) or self._gone(
                execution.sandbox or SandboxStatus()
            )
            self._fail(execution, replace(failure, ran=True))
            return
        output = ExecutionOutput.model_construct(stdout=text, stderr="", truncated=False)
        execution = execution.model_copy(
            update={"output": output, "exit_code": result.exit_code, "signal": result.signal}
        )
        if result.reason is Reason.COMPLETED:
            execution = with_program_result(execution, planned, self.now)
            self._finish(execution, ran=True, pod=pod)
        else:
            self._end(execution, result.reason, result.message, ran=True)

    # --- ends ---

    def _gone(self, sandbox: SandboxStatus) -> PodFailure:
        name = sandbox.pod_name or ""
        return pod_gone(name, sandbox.node, self.observed.last_seen.get(name))

    def _planned(self, call: Call, execution: ExecutionStatus) -> Planned | CallRefusal:
        owner = Owner(f"{self.task.key.uid}/{call.name}", execution.attempt)
        return plan(
            call,
            owner,
            catalogue=self.rules.catalogue,
            policy=self.rules.policy,
            secrets={},
            abilities=_ABILITIES,
        )

    def _refuse(
        self, execution: ExecutionStatus, reason: Reason, message: str, *, field: str | None, rule: str | None
    ) -> None:
        self.executions[execution.name] = statuses.ended(
            execution, reason, message, self.now, field=field, rule=rule
        )
        self._drop_cold_pod(execution)

    def _fail(self, execution: ExecutionStatus, failure: PodFailure) -> None:
        self._end(execution, failure.reason, failure.message, ran=failure.ran, field=failure.field)

    def _end(
        self,
        execution: ExecutionStatus,
        reason: Reason,
        message: str,
        *,
        ran: bool | None,
        field: str | None = None,
    ) -> None:
        pod = self.observed.pods.get((execution.sandbox and execution.sandbox.pod_name) or "")
        self._finish(
            statuses.ended(execution, reason, message, self.now, field=field),
            ran=False if execution.sandbox is None else ran,
            pod=pod,
        )

    def _finish(self, execution: ExecutionStatus, *, ran: bool | None, pod: PodView | None) -> None:
        """Record how an attempt ended, or begin the next one where the task asks for it and it is safe."""
        if pod is not None and not pod.deleting and DeletePod(pod.key) not in self.actions:
            self.actions.append(DeletePod(pod.key))
        again_at = self._retry_at(execution, may_have_run=ran is not False)
        if again_at is None:
            others = [other for name, other in self.executions.items() if name != execution.name]
            self.executions[execution.name] = fit(execution, others, self.rules.settings, self.now)
            return
        following = self._new(execution.name, execution.tool, execution.attempt + 1, again_at)
        message = f"attempt {execution.attempt} ended with {execution.reason}: {execution.message}"
        self.executions[execution.name] = following.model_copy(update={"message": message})
        self.actions.append(Tell("Warning", "Retrying", message))
        self._wake_at(again_at)

    def _retry_at(self, execution: ExecutionStatus, *, may_have_run: bool) -> datetime | None:
        spec = self.task.spec
        if spec is None or spec.retry is None or self._stopped(spec) is not None:
            return None
        retry = spec.retry
        if execution.attempt >= retry.max_attempts or execution.reason not in retry.reasons:
            return None
        if may_have_run and not self._is_idempotent(execution.tool):
            return None
        pause = parse_duration(retry.backoff) * 2 ** (execution.attempt - 1)
        return self.now + timedelta(seconds=pause)

    def _is_idempotent(self, tool: str) -> bool:
        try:
            return self.rules.catalogue.get(tool).spec.idempotent
        except ToolNotFoundError:
            return False

    # --- the status ---

    def _new(self, name: str, tool: str, attempt: int, queued: datetime) -> ExecutionStatus:
        timings = Timings.model_construct(
            queued=statuses.time_text(queued), claimed=None, started=None, finished=None
        )
        return ExecutionStatus(name=name, tool=tool, attempt=attempt, phase=Phase.PENDING, timings=timings)

    @staticmethod
    def _assigned(execution: ExecutionStatus) -> bool:
        return execution.sandbox is not None

    def _running(self) -> list[str]:
        return [
            name
            for name, execution in self.executions.items()
            if execution.reason is None and self._assigned(execution)
        ]

    def _open(self) -> list[str]:
        return [name for name, execution in self.executions.items() if execution.reason is None]

    def _finished(self) -> dict[str, StepOutcome]:
        return {
            name: StepOutcome.of(execution)
            for name, execution in self.executions.items()
            if execution.reason is not None
        }

    def _say(self, execution: ExecutionStatus, message: str) -> None:
        """Tell people what an execution waits for, once it has waited long enough for somebody to wonder."""
        queued = _time(execution.timings.queued if execution.timings else None) or self.now
        if self.now - queued < _SAY_AFTER:
            self._wake_at(queued + _SAY_AFTER)
            return
        if execution.message != message:
            self.executions[execution.name] = execution.model_copy(update={"message": message})

    def _drop_cold_pod(self, execution: ExecutionStatus) -> None:
        name = cold_pod_name(self.task.key.name, self.task.key.uid, execution.name, execution.attempt)
        pod = self.observed.pods.get(name)
        if pod is not None and pod.owner_uid == self.task.key.uid and not pod.deleting:
            self.actions.append(DeletePod(pod.key))

    def _wake_at(self, moment: datetime) -> None:
        self.wake = moment if self.wake is None else min(self.wake, moment)

    def _ordered(self) -> tuple[ExecutionStatus, ...]:
        spec = self.task.spec
        if spec is None or not spec.steps:
            return tuple(self.executions.values())
        return tuple(self.executions[step.name] for step in spec.steps if step.name in self.executions)

    def _unfinished(self) -> AgentTaskStatus:
        before, executions = self.task.status, self._ordered()
        running = any(self._assigned(execution) for execution in executions)
        waits = statuses.waiting_message(executions)
        told = running or bool(waits) or bool(before.conditions)
        if not told:
            return before  # nothing worth a write yet
        conditions = self._condition(before.conditions, statuses.ACCEPTED, "Accepted", "")
        if running:
            conditions = self._condition(conditions, statuses.STARTED, statuses.SANDBOX_ASSIGNED, "")
        elif waits and not statuses.was_started(before):
            why = statuses.WAITING_FOR_SANDBOX if self.waiting else statuses.STARTING_SANDBOX
            conditions = self._condition(conditions, statuses.STARTED, why, waits, holds=False)
        start = before.start_time or (statuses.time_text(self.now) if running else None)
        return self._status(
            conditions=conditions,
            phase=Phase.RUNNING if running or before.start_time else Phase.PENDING,
            reason=None,
            message=waits or None,
            start_time=start,
            queue_position=self._position(),
            completion_time=None,
        )

    def _position(self) -> int | None:
        """The best position in a queue; the one told before, while it is fresh enough."""
        if not self.waiting:
            return None
        positions = [
            position
            for one in self.waiting
            if (position := self.observed.positions.get(one.execution)) is not None
        ]
        best = min(positions, default=None)
        told = self.task.status.queue_position
        if best is None or told is None or told == best:
            return best
        changed = _time(
            next((c.last_transition_time for c in self.task.status.conditions if c.type == "Started"), None)
        )
        if changed is not None and self.now - changed < _POSITION_EVERY:
            self._wake_at(changed + _POSITION_EVERY)
            return told
        return best

    def _end_task(self, reason: Reason, message: str) -> Plan:
        before, executions = self.task.status, self._ordered()
        # One execution that never saw a sandbox, refused for what the task is: the task itself was not accepted.
        began = any(self._assigned(execution) for execution in executions) or statuses.was_started(before)
        accepted = began or reason not in _NOT_ACCEPTED
        conditions = self._condition(
            before.conditions,
            statuses.ACCEPTED,
            "Accepted" if accepted else reason.value,
            "" if accepted else message,
            holds=accepted,
        )
        if began:
            conditions = self._condition(conditions, statuses.STARTED, statuses.SANDBOX_ASSIGNED, "")
        else:
            conditions = self._condition(
                conditions, statuses.STARTED, reason.value, "nothing ran", holds=False
            )
        conditions = self._condition(conditions, statuses.FINISHED, reason.value, message)
        started = [
            text for execution in executions if (text := execution.timings and execution.timings.started)
        ]
        status = self._status(
            conditions=conditions,
            phase=statuses.phase_of(reason),
            reason=reason,
            message=message or None,
            start_time=before.start_time or min(started, default=None),
            queue_position=None,
            completion_time=statuses.time_text(self.now),
        )
        if reason is not Reason.COMPLETED:
            self.actions.append(Tell("Warning", reason.value, message or reason.value))
        return self._plan(status)

    def _condition(
        self,
        conditions: tuple[Condition, ...],
        kind: str,
        reason: str,
        message: str,
        *,
        holds: bool = True,
    ) -> tuple[Condition, ...]:
        new = statuses.condition(
            conditions,
            kind,
            holds=holds,
            reason=reason,
            message=message,
            now=self.now,
            generation=self.task.generation,
        )
        return statuses.with_condition(conditions, new)

    def _status(self, **fields: Any) -> AgentTaskStatus:
        executions = self._ordered()
        sandboxes = [execution.sandbox for execution in executions if execution.sandbox is not None]
        latest = sandboxes[-1] if sandboxes else self.task.status.sandbox
        return AgentTaskStatus.model_construct(
            observed_generation=self.task.generation,
            attempt=max((execution.attempt for execution in executions), default=1),
            retry_after_seconds=self.retry_after,
            sandbox=latest,
            executions=executions,
            **fields,
        )

    def _plan(self, status: AgentTaskStatus) -> Plan:
        return Plan(
            status=None if status == self.task.status else status,
            actions=tuple(self.actions),
            claims=tuple(self.claims),
            waiting=tuple(self.waiting),
            wake_at=self.wake,
        )


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
