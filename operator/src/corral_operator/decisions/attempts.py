"""What became of an attempt that has a sandbox. Pure."""

from dataclasses import replace
from datetime import timedelta

from corral.api import AgentTaskSpec, ExecutionStatus, Phase, Reason
from corral.sandbox.plan import Planned
from corral_operator.decisions import status as statuses
from corral_operator.decisions.actions import Ask, Cancel
from corral_operator.decisions.draft import Draft, Stopped
from corral_operator.decisions.observed import RunView
from corral_operator.decisions.placement import start
from corral_operator.decisions.pod_failure import PodFailure, doubted, pod_failure
from corral_operator.decisions.programs import RUNNER, look_at_program
from corral_operator.views import PodView

#: What became of a pod is often known only some time after its runner fell silent: a node counts as lost after
#: about 50 s.
_LOST_PATIENCE = timedelta(seconds=120)
#: A cancelled tool has this long to end by itself; then its pod is taken away.
_CANCEL_PATIENCE = timedelta(seconds=10)
#: How often a runner is asked whether it is there, while its pod looks as if it were not.
_ASK_EVERY = timedelta(seconds=5)


def look_at_attempt(
    draft: Draft, spec: AgentTaskSpec, execution: ExecutionStatus, stopped: Stopped | None
) -> None:
    """Look at an execution whose sandbox stands in the status."""
    sandbox = execution.sandbox
    assert sandbox is not None
    pod = draft.observed.pods.get(sandbox.pod_name) if sandbox.pod_name else None
    if pod is not None and sandbox.pod_uid is not None and pod.key.uid != sandbox.pod_uid:
        pod = None
    if RUNNER in sandbox.weakened:
        program = _planned(draft, spec, execution)
        # Its tool may be another by now.
        look_at_program(draft, execution, program if program and program.needs.plain else None, pod, stopped)
        return
    run = draft.observed.runs.get(execution.name)
    if run is None:
        if pod is None:
            if draft.is_gone(sandbox.pod_name or ""):
                _end_or_fail(draft, execution, draft.gone(sandbox), stopped)
        else:
            # Once it is stopped, what was started before is followed, and nothing is started.
            start(draft, execution, pod, _planned(draft, spec, execution) if stopped is None else None)
    elif run.never_started is not None:
        _take_back(draft, execution, run, stopped)
    elif run.ended is not None:
        _take_result(draft, execution, run, pod, stopped)
    elif run.lost is not None:
        _look_for_cause(draft, execution, run, pod, stopped)
    else:
        if stopped is not None:
            _ask_to_end(draft, execution, run, pod)
        _look_after(draft, execution, run, pod)


def _planned(draft: Draft, spec: AgentTaskSpec, execution: ExecutionStatus) -> Planned | None:
    """Return what runs, from the task as it stands; None where that no longer says it."""
    call = draft.call(spec, execution.name)
    planned = None if call is None else draft.planned(call, execution.attempt)
    return planned if isinstance(planned, Planned) else None


def _end_or_fail(
    draft: Draft, execution: ExecutionStatus, failure: PodFailure, stopped: Stopped | None
) -> None:
    if stopped is not None:
        draft.end(execution, *stopped, ran=None)
    else:
        draft.fail(execution, doubted(failure))


def _look_after(draft: Draft, execution: ExecutionStatus, run: RunView, pod: PodView | None) -> None:
    """Ask a runner whether it is there when its pod looks as if it were not.

    A node that hangs closes no connection, and its kernel may answer for a process that never will. A tool that
    lives on a node whose kubelet is dead is no loss.
    """
    if pod is not None and pod.ready and not pod.ended:
        return
    if run.asked_at is None or draft.now >= run.asked_at + _ASK_EVERY:
        draft.actions.append(Ask(execution.name))
        draft.wake_at(draft.now + _ASK_EVERY)
    else:
        draft.wake_at(run.asked_at + _ASK_EVERY)


def _ask_to_end(draft: Draft, execution: ExecutionStatus, run: RunView, pod: PodView | None) -> None:
    if run.cancelled_at is None:
        draft.actions.append(Cancel(execution.name))
        draft.wake_at(draft.now + _CANCEL_PATIENCE)
    elif draft.now < run.cancelled_at + _CANCEL_PATIENCE:
        draft.wake_at(run.cancelled_at + _CANCEL_PATIENCE)
    elif pod is not None:
        draft.delete_pod(pod)


def _take_back(draft: Draft, execution: ExecutionStatus, run: RunView, stopped: Stopped | None) -> None:
    """A waiting sandbox turned out to be used already: the execution takes another.

    It is not deleted: another operator may have given it to the task that it serves.
    """
    sandbox = execution.sandbox
    if sandbox is None or not sandbox.warm:
        draft.end(execution, *(stopped or (Reason.SANDBOX_FAILED, run.never_started or "")), ran=False)
        return
    waits = execution.model_copy(update={"phase": Phase.PENDING, "sandbox": None})
    draft.executions[execution.name] = waits
    if stopped is not None:
        draft.end(waits, *stopped, ran=False)
        pod = draft.observed.pods.get(sandbox.pod_name or "")
        if pod is not None and pod.key.uid == sandbox.pod_uid:
            draft.delete_pod(pod)  # a start that was sent may yet arrive


def _take_result(
    draft: Draft,
    execution: ExecutionStatus,
    run: RunView,
    pod: PodView | None,
    stopped: Stopped | None,
) -> None:
    assert execution.sandbox is not None
    assert run.ended is not None
    sandbox = execution.sandbox.model_copy(update={"isolation": run.isolation, "weakened": run.weakened})
    result = run.ended.model_copy(update={"sandbox": sandbox})
    if result.reason is Reason.CANCELLED and stopped is None:
        _look_for_who_ended_it(draft, execution, result, run, pod)
        return
    if result.reason is Reason.CANCELLED and stopped is not None and stopped[0] is not Reason.CANCELLED:
        result = statuses.ended(result, *stopped, draft.now)
    draft.finish(result, ran=run.began, pod=pod, idle=run.told)


def _look_for_who_ended_it(
    draft: Draft, execution: ExecutionStatus, result: ExecutionStatus, run: RunView, pod: PodView | None
) -> None:
    """Nobody cancelled: the pod is being taken away, and its runner ended the tool in time to say so."""
    assert execution.sandbox is not None
    failure = None if pod is None else pod_failure(pod, draft.now, timedelta(0))
    if failure is None and pod is None and draft.is_gone(execution.sandbox.pod_name or ""):
        failure = draft.gone(execution.sandbox)
    patience_ends = (run.over_at or draft.now) + _LOST_PATIENCE
    if failure is not None:
        draft.fail(result, replace(failure, ran=True))
    elif draft.now >= patience_ends:
        message = "its runner was told to end, and nothing in the cluster says by whom"
        draft.end(result, Reason.SANDBOX_FAILED, message, ran=True)
    else:
        draft.wake_at(patience_ends)


def _look_for_cause(
    draft: Draft, execution: ExecutionStatus, run: RunView, pod: PodView | None, stopped: Stopped | None
) -> None:
    """The runner was lost without a word: what became of its pod is the reason."""
    assert execution.sandbox is not None
    if stopped is not None:
        draft.end(execution, *stopped, ran=None)
        return
    if pod is None:
        if draft.is_gone(execution.sandbox.pod_name or ""):
            draft.fail(execution, doubted(draft.gone(execution.sandbox)))
        return
    failure = pod_failure(pod, draft.now, _LOST_PATIENCE)
    since = run.over_at or draft.now
    if failure is not None:
        draft.fail(execution, doubted(failure))
    elif draft.now >= since + _LOST_PATIENCE:
        message = f"the runner in pod {pod.key.name} on node {pod.node} was lost: {run.lost}"
        draft.end(execution, Reason.SANDBOX_FAILED, message, ran=None)
    else:
        draft.wake_at(since + _LOST_PATIENCE)
