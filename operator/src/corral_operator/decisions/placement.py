"""Where an execution runs: a waiting sandbox of a pool, a pod of its own, or, for now, nowhere. Pure."""

from dataclasses import replace
from datetime import timedelta
from math import ceil

from corral.api import (
    AgentTaskSpec,
    ExecutionStatus,
    NetworkMode,
    Phase,
    Reason,
    SandboxStatus,
    Timings,
    time_text,
)
from corral.sandbox.plan import Call, Planned, Refusal
from corral_operator.builders.resources import sandbox_size
from corral_operator.decisions.actions import CreatePod, Resize, Start, Waiting
from corral_operator.decisions.draft import Draft
from corral_operator.decisions.match import Ask, ChoiceKind, choose
from corral_operator.decisions.pod_failure import patience_ends, pod_failure
from corral_operator.decisions.programs import run_program
from corral_operator.decisions.sizes import SandboxSize
from corral_operator.views import PodView


def place(draft: Draft, spec: AgentTaskSpec, call: Call) -> None:
    """Find a sandbox for an execution that has none."""
    execution = draft.executions[call.name]
    not_before = draft.queued_at(execution)
    if not_before > draft.now:
        draft.wake_at(not_before)
        return
    if not draft.has_heard_of(call.tool):
        return
    planned = draft.planned(call, execution.attempt)
    if isinstance(planned, Refusal):
        error = planned.error
        draft.refuse(execution, planned.reason, planned.message, field=error.field, rule=error.rule)
        return
    runtime_class, settings = spec.runtime_class_name, draft.rules.settings
    if runtime_class is not None and runtime_class not in {
        settings.runtime_class,
        *settings.allowed_runtime_classes,
    }:
        allowed = ", ".join(settings.allowed_runtime_classes) or "none beside the default"
        message = f"tasks may not ask for RuntimeClass {runtime_class}; allowed: {allowed}"
        draft.refuse(
            execution,
            Reason.PERMISSION_DENIED,
            message,
            field="spec.runtimeClassName",
            rule="allowedRuntimeClasses",
        )
        return
    if settings.require_network_policy and draft.rules.policies_enforced is not True:
        draft.say(execution, "waits for the proof that the cluster enforces NetworkPolicies")
        return
    if planned.needs.image is not None and draft.rules.policies_enforced is False:
        # Whether a foreign image really has the runner, and with it the filter, only the image knows.
        message = (
            "the tool brings an image of its own, and nobody in this cluster enforces NetworkPolicies: "
            "nothing that Corral answers for would keep it from the network"
        )
        draft.refuse(execution, Reason.UNSUPPORTED, message, field="spec.tool")
        return
    name = draft.cold_pod(execution)
    pod = draft.observed.pods.get(name)
    refusal = draft.observed.refusals.get(call.name)
    if pod is not None:
        _look_at_cold_pod(draft, execution, planned, pod)
    elif refusal is not None:
        draft.retry_after = refusal.retry_after_seconds
        draft.end(execution, refusal.reason, refusal.message, ran=False, field=refusal.field)
    elif call.name in draft.observed.made:
        message = f"the pod {name} was deleted before anything ran in it"
        draft.end(execution, Reason.SANDBOX_FAILED, message, ran=False)
    elif planned.needs.plain:
        run_program(draft, spec, execution, planned)
    else:
        _choose(draft, spec, execution, planned)


def start(
    draft: Draft,
    execution: ExecutionStatus,
    pod: PodView,
    planned: Planned | None,
    larger: SandboxSize | None = None,
) -> None:
    """Tell the runner to start, or, without a plan, find out what it runs.

    Args:
        draft: of the task.
        execution: that has this sandbox.
        pod: the sandbox.
        planned: what is to run.
        larger: what the sandbox must become before. If it was taken for that by somebody who then died, it follows
            from the pod itself.
    """
    request = None if planned is None else planned.request
    sandbox, size = draft.executions[execution.name].sandbox, sandbox_size(pod)
    if request is not None and sandbox is not None and sandbox.resized and size is not None:
        need = SandboxSize.of(request.limits)
        cpu, memory_bytes = max(size.cpu, need.cpu), max(size.memory_bytes, need.memory_bytes)
        larger = None if size.holds(need) else SandboxSize(cpu, memory_bytes, size.disk_bytes)
    if larger is not None:
        draft.actions.append(Resize(execution.name, pod.key, larger))
    owner = draft.owner(execution.name, execution.attempt)
    draft.actions.append(Start(execution.name, pod.key, owner, request))


def _choose(draft: Draft, spec: AgentTaskSpec, execution: ExecutionStatus, planned: Planned) -> None:
    size = SandboxSize.of(planned.request.limits)
    settings = draft.rules.settings
    late = settings.late_secrets
    choice = choose(
        draft.observed.pools,
        Ask(
            size=size,
            image=None if planned.needs.image == settings.sandbox_image else planned.needs.image,
            runtime_class=None
            if spec.runtime_class_name == settings.runtime_class
            else spec.runtime_class_name,
            network=spec.network.mode if spec.network is not None else NetworkMode.NONE,
            needs_secrets=bool(spec.secret_refs),
        ),
        late_secrets=draft.task.key.namespace in late or "*" in late,
        taken=frozenset(pod.uid for _, pod in draft.claims),
    )
    match choice.kind:
        case ChoiceKind.WARM | ChoiceKind.RESIZE:
            assert choice.pod is not None
            assert choice.pool is not None
            draft.claims.append((execution.name, choice.pod.key))
            draft.pools[execution.name] = choice.pool
            _assign(draft, execution, choice.pod, warm=True, resized=choice.size is not None)
            start(draft, execution, choice.pod, planned, choice.size)
        case ChoiceKind.COLD:
            draft.actions.append(
                CreatePod(
                    execution.name,
                    execution.attempt,
                    draft.cold_pod(execution),
                    size,
                    image=planned.needs.image,
                    runtime_class=spec.runtime_class_name,
                    deadline_seconds=ceil(
                        settings.pod_start_seconds
                        + planned.request.limits.wall_seconds
                        + settings.linger_seconds
                    ),
                    missed_pool=choice.pool,
                )
            )
            draft.say(execution, f"a pod of its own is starting ({choice.why})")
        case ChoiceKind.QUEUE:
            assert choice.pool is not None
            draft.waiting.append(Waiting(execution.name, choice.pool))
            draft.say(execution, f"waits for a sandbox of pool {choice.pool}")
        case ChoiceKind.REFUSE:
            draft.retry_after = choice.retry_after_seconds
            draft.end(execution, Reason.QUOTA_EXCEEDED, choice.why, ran=False)


def _look_at_cold_pod(draft: Draft, execution: ExecutionStatus, planned: Planned, pod: PodView) -> None:
    seconds = draft.rules.settings.pod_start_seconds
    if pod.owner_uid != draft.task.key.uid:
        message = f"a pod called {pod.key.name} is there and belongs to somebody else"
        draft.end(execution, Reason.SANDBOX_FAILED, message, ran=False)
        return
    patience = timedelta(seconds=seconds)
    failure = pod_failure(pod, draft.now, patience)
    if failure is not None:
        draft.delete_pod(pod)
        draft.fail(execution, replace(failure, ran=False))
    elif pod.ip and pod.container.running:
        _assign(draft, execution, pod, warm=False)
        start(draft, execution, pod, planned)
    else:
        draft.wake_at(patience_ends(pod, patience) or draft.now + patience)
        why = pod.scheduling_message or pod.container.waiting_message or pod.container.waiting or ""
        draft.say(execution, f"its pod {pod.key.name} is starting{f': {why}' if why else ''}")


def _assign(
    draft: Draft, execution: ExecutionStatus, pod: PodView, *, warm: bool, resized: bool = False
) -> None:
    """Put the sandbox into the status. Nothing is told to start before that is written."""
    timings = (execution.timings or Timings()).model_copy(update={"claimed": time_text(draft.now)})
    draft.executions[execution.name] = execution.model_copy(
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
