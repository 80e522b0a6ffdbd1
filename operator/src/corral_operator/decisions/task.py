"""What to do about a task now. Pure: the task, what is observed, the time, and the rules in; a plan out.

Level-based: every look starts from what stands in the status and what exists, whatever happened before. The order
of things that makes an execution start at most once: the status names the sandbox first; only then is the
sandbox's runner told to start, and it takes one owner in its life.
"""

from datetime import datetime

from corral.api import (
    MAIN,
    AgentTaskSpec,
    Reason,
    ReferenceProblem,
    Step,
    StepOutcome,
    fatal_step,
    next_steps,
    resolve_arguments,
)
from corral.sandbox.plan import Call
from corral_operator.decisions import report
from corral_operator.decisions.actions import Plan, Tell
from corral_operator.decisions.attempts import look_at_attempt
from corral_operator.decisions.draft import Draft, Stopped
from corral_operator.decisions.observed import Observed, Rules, UnheardOfError
from corral_operator.decisions.placement import place
from corral_operator.decisions.task_view import TaskView


def decide(task: TaskView, observed: Observed, now: datetime, rules: Rules) -> Plan:
    """Say what to do about a task that has not ended.

    Args:
        task: as it stands.
        observed: pods, runners and pools at this moment.
        now: the time.
        rules: settings, policy, tools.

    Raises:
        UnheardOfError: first ask the API server for these tools, then ask again.
        UncheckedError: first find out what is wrong with these arguments, then ask again.
    """
    if task.deleting:
        return Plan()  # what it has goes when it is gone: see ``Tasks.gone``
    if task.status_problem:
        message = f"somebody wrote a status that cannot be read ({task.status_problem}); nothing is started"
        return Plan(actions=(Tell("Warning", "StatusBroken", message),))
    draft = Draft(task, observed, now, rules, {one.name: one for one in task.status.executions})
    if task.spec is None:
        # An operator that was upgraded may refuse what its predecessor began.
        for name in draft.open():
            draft.end(draft.executions[name], Reason.INVALID_SPEC, task.problem, ran=None)
        return report.ended(draft, Reason.INVALID_SPEC, task.problem)
    if task.spec.agent is not None:
        message = "agent tasks are worked off by a gateway with a model provider; this operator runs tools"
        return report.ended(draft, Reason.UNSUPPORTED, message)
    stopped = draft.stopped()
    for name in draft.open():
        if draft.executions[name].sandbox is not None:
            look_at_attempt(draft, task.spec, draft.executions[name], stopped)
    if stopped is None:
        _place_waiting(draft, task.spec)
        end = _go_on(draft, task.spec)
        _hold_back(draft, task.spec)
    else:
        end = _stop(draft, stopped)
    if draft.unheard:
        raise UnheardOfError(draft.unheard)
    return report.unfinished(draft) if end is None else report.ended(draft, *end)


def _place_waiting(draft: Draft, spec: AgentTaskSpec) -> None:
    """Look for sandboxes for what has begun and has none."""
    for name in draft.open():
        _hold_back(draft, spec)
        execution = draft.executions[name]
        if execution.reason is not None or execution.sandbox is not None:
            continue
        call = draft.call(spec, name)
        if call is None:
            draft.end(execution, Reason.SANDBOX_FAILED, "its step is no longer in the spec", ran=False)
        else:
            place(draft, spec, call)


def _hold_back(draft: Draft, spec: AgentTaskSpec) -> None:
    """After a step that ends the chain nothing starts, also not what has begun to wait for a sandbox."""
    fatal = fatal_step(spec, draft.finished())
    if fatal is None:
        return
    for name in draft.open():
        if draft.executions[name].sandbox is None:
            message = f"it had not started when step {fatal.name} ended the chain"
            draft.refuse(draft.executions[name], Reason.CANCELLED, message)


def _stop(draft: Draft, stopped: Stopped) -> Stopped | None:
    """Nothing more starts; the task ends when what runs has ended."""
    for name in draft.open():
        if draft.executions[name].sandbox is None:
            draft.refuse(draft.executions[name], *stopped)
    return None if draft.open() else stopped


def _go_on(draft: Draft, spec: AgentTaskSpec) -> tuple[Reason, str] | None:
    """Begin what may begin now. Returns how the task ends, None while it does not."""
    if not spec.steps:
        if MAIN not in draft.executions:
            _begin(draft, spec, Call(MAIN, spec.tool or "", spec.arguments, spec))
        main = draft.executions[MAIN]
        return None if main.reason is None else (main.reason, main.message or "")
    steps = {step.name: step for step in spec.steps}
    while True:
        finished = draft.finished()
        decision = next_steps(spec, finished, draft.open())
        if decision.reason is not None:
            return decision.reason, decision.message
        for name in decision.ready:
            if fatal_step(spec, draft.finished()) is None:
                _begin_step(draft, spec, steps[name], finished)
        _hold_back(draft, spec)
        if all(name in draft.open() for name in decision.ready):
            return None  # a step that ended at once may have been what others waited for


def _begin_step(draft: Draft, spec: AgentTaskSpec, step: Step, finished: dict[str, StepOutcome]) -> None:
    try:
        arguments = resolve_arguments(step, finished)
    except ReferenceProblem as problem:
        execution = draft.begin(step.name, step.tool, 1, draft.now)
        draft.refuse(execution, Reason.INVALID_ARGUMENTS, problem.message)
        return
    _begin(draft, spec, Call(step.name, step.tool, arguments, spec, step))


def _begin(draft: Draft, spec: AgentTaskSpec, call: Call) -> None:
    draft.begin(call.name, call.tool, 1, draft.now if draft.executions else draft.observed.seen)
    place(draft, spec, call)
