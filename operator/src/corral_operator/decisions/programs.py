"""Tools whose image has no runner: the pod's container is the program, and the kubelet starts it. Pure.

A pod that exists may run, so the status names it before it is made. Its result is its log and its exit code.
"""

from datetime import timedelta
from math import ceil

from corral.api import (
    AgentTaskSpec,
    ExecutionOutput,
    ExecutionStatus,
    Phase,
    Reason,
    SandboxStatus,
    Timings,
    time_text,
)
from corral.sandbox.plan import Planned
from corral_operator.decisions.actions import CreatePod, Program, ReadLog
from corral_operator.decisions.draft import Draft, Stopped
from corral_operator.decisions.plain_result import plain_result
from corral_operator.decisions.pod_failure import doubted, patience_ends, pod_failure, pod_gone
from corral_operator.decisions.program_output import with_program_result
from corral_operator.decisions.sizes import SandboxSize
from corral_operator.views import PodView

#: In ``weakened`` of a sandbox: the image has no runner, so nothing holds that only a runner can hold.
RUNNER = "runner"
#: What a container runtime and the namespace's NetworkPolicy put around every sandbox pod.
_ISOLATION = ("pidns", "mountns", "netns", "ipcns", "utsns", "cgroupns", "networkpolicy")


def run_program(draft: Draft, spec: AgentTaskSpec, execution: ExecutionStatus, planned: Planned) -> None:
    """Assign a pod that does not exist yet, and have it made."""
    problem = _what_needs_a_runner(spec, planned)
    if problem is not None:
        field, message = problem
        draft.refuse(execution, Reason.UNSUPPORTED, message, field=field)
        return
    timings = (execution.timings or Timings()).model_copy(update={"claimed": time_text(draft.now)})
    sandbox = SandboxStatus.model_construct(
        backend="kubernetes",
        pod_name=draft.cold_pod(execution),
        pod_uid=None,
        node=None,
        warm=False,
        resized=None,
        isolation=_ISOLATION,
        weakened=(RUNNER,),
    )
    draft.executions[execution.name] = execution.model_copy(
        update={"phase": Phase.RUNNING, "message": None, "timings": timings, "sandbox": sandbox}
    )
    _create(draft, execution, planned)


def look_at_program(
    draft: Draft,
    execution: ExecutionStatus,
    planned: Planned | None,
    pod: PodView | None,
    stopped: Stopped | None,
) -> None:
    """Look at a program whose pod stands in the status.

    Without a plan its tool is gone or another by now: what runs is followed by what its pod says.
    """
    sandbox, refusal = execution.sandbox, draft.observed.refusals.get(execution.name)
    assert sandbox is not None
    if refusal is not None:
        draft.end(execution, refusal.reason, refusal.message, ran=False, field=refusal.field)
    elif pod is None:
        _look_for_pod(draft, execution, planned, sandbox, stopped)
    elif stopped is not None:
        draft.end(execution, *stopped, ran=True)
    else:
        _look_at_pod(draft, execution, planned, sandbox, pod)


def _look_for_pod(
    draft: Draft,
    execution: ExecutionStatus,
    planned: Planned | None,
    sandbox: SandboxStatus,
    stopped: Stopped | None,
) -> None:
    """Look at a program whose pod stands in the status and is not there: not made yet, or gone."""
    name = sandbox.pod_name or ""
    ours = execution.name in draft.observed.assigned
    # Seen by nobody: whoever wrote its name died before it was made, or it ran and went unseen.
    unseen = sandbox.pod_uid is None and name in draft.observed.absent
    if planned is not None and stopped is None and (ours or (unseen and draft.is_idempotent(execution.tool))):
        _create(draft, execution, planned)
    elif stopped is not None and (ours or draft.is_gone(name)):
        draft.end(execution, *stopped, ran=False if ours else None)
    elif unseen:
        message = (
            f"another operator took over while the pod {name} was being made; whether the program ran is not known, "
            "and its tool is not declared idempotent"
        )
        draft.end(execution, Reason.SANDBOX_FAILED, message, ran=None)
    elif draft.is_gone(name):
        draft.fail(execution, draft.gone(sandbox))


def _look_at_pod(
    draft: Draft, execution: ExecutionStatus, planned: Planned | None, sandbox: SandboxStatus, pod: PodView
) -> None:
    if sandbox.pod_uid is None:
        sandbox = sandbox.model_copy(update={"pod_uid": pod.key.uid, "node": pod.node})
        execution = execution.model_copy(update={"sandbox": sandbox})
        if pod.container.running or pod.container.terminated is not None:
            draft.executions[execution.name] = execution
    container = pod.container
    if container.terminated is not None:
        _take_result(draft, execution, planned, pod)
        return
    patience = timedelta(seconds=draft.rules.settings.pod_start_seconds)
    failure = pod_failure(pod, draft.now, patience)
    if failure is not None:
        # The kubelet may have started it since this was seen; a runner's pod starts nothing by itself.
        draft.fail(execution, doubted(failure))
    elif container.running and container.started_at is not None:
        if planned is None:
            return  # its pod has a deadline of its own
        wall_seconds = planned.request.limits.wall_seconds
        end = container.started_at + timedelta(seconds=wall_seconds)
        if draft.now < end:
            draft.wake_at(end)
            return
        said = _with_output(draft, execution, pod)
        if said is not None:
            message = f"the program ran longer than limits.timeout, {wall_seconds:g} s"
            draft.end(said, Reason.DEADLINE_EXCEEDED, message, ran=True)
    else:
        draft.wake_at(patience_ends(pod, patience) or draft.now + patience)


def _take_result(draft: Draft, execution: ExecutionStatus, planned: Planned | None, pod: PodView) -> None:
    said = _with_output(draft, execution, pod)
    if said is None:
        return
    execution, result = said, plain_result(pod)
    if result is None:
        failure = pod_failure(pod, draft.now, timedelta(0)) or pod_gone(pod.key.name, pod.node, pod)
        draft.fail(execution, failure)
        return
    json = planned is not None and planned.request.run.get("resultFormat") == "json"
    execution = execution.model_copy(update={"exit_code": result.exit_code, "signal": result.signal})
    if result.reason is Reason.COMPLETED:
        problem = draft.observed.logs[execution.name].problem
        if problem:
            message = f"the program ended well, but its result, the log, could not be read: {problem}"
            draft.end(execution, Reason.SANDBOX_FAILED, message, ran=True)
        else:
            draft.finish(with_program_result(execution, json, draft.now), ran=True, pod=pod, idle=True)
    else:
        draft.end(execution, result.reason, result.message, ran=True)


def _with_output(draft: Draft, execution: ExecutionStatus, pod: PodView) -> ExecutionStatus | None:
    """Return an execution with what its program printed; None: that is read before the next look."""
    printed = draft.observed.logs.get(execution.name)
    final = pod.container.terminated is not None
    if printed is None or (final and not printed.final):
        draft.actions.append(ReadLog(execution.name, execution.attempt, pod.key, final))
        return None
    timings = (execution.timings or Timings()).model_copy(
        update={"started": None if pod.container.started_at is None else time_text(pod.container.started_at)}
    )
    stderr = f"(the log could not be read: {printed.problem})" if printed.problem else printed.stderr
    output = ExecutionOutput.model_construct(stdout=printed.stdout, stderr=stderr, truncated=False)
    return execution.model_copy(update={"output": output, "timings": timings})


def _create(draft: Draft, execution: ExecutionStatus, planned: Planned) -> None:
    spec, request = draft.task.spec, planned.request
    assert spec is not None
    deadline = request.limits.wall_seconds + draft.rules.settings.pod_start_seconds
    draft.actions.append(
        CreatePod(
            execution.name,
            execution.attempt,
            draft.cold_pod(execution),
            SandboxSize.of(request.limits),
            image=planned.needs.image,
            runtime_class=spec.runtime_class_name,
            program=Program(
                argv=tuple(request.run["command"]),
                env=tuple(sorted(request.env.items())),
            ),
            deadline_seconds=ceil(deadline),
        )
    )


def _what_needs_a_runner(spec: AgentTaskSpec, planned: Planned) -> tuple[str, str] | None:
    """Return what of the task cannot be done without a runner: the field, and a message."""
    limits = planned.request.limits
    for asked, field, what in (
        (spec.files, "spec.files", "files"),
        (spec.outputs, "spec.outputs", "outputs"),
        (planned.request.run.get("stdin"), "spec.tool", "standard input"),
        (spec.allowed_paths not in {(), (".",)}, "spec.allowedPaths", "allowedPaths"),
        (limits.idle_seconds is not None, "spec.limits.idleTimeout", "idleTimeout"),
    ):
        if asked:
            message = f"{what} needs Corral's runner, which the tool's image does not have"
            return field, f"{message} (run.command.hasRunner)"
    return None
