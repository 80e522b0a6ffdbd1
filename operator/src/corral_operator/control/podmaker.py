"""Makes sandbox pods: the builders' pods, with the tokens of this operator."""

import secrets
from typing import Any

from corral.api import API_VERSION, SandboxPoolSpec, SecretRef
from corral.cluster.port import ObjectKey
from corral.sandbox.pod.tokens import PodTokens
from corral_operator.builders.runner import runner_settings
from corral_operator.builders.sandbox_pod import PodOwner, PodSpec, ProgramProcess, RunnerProcess, sandbox_pod
from corral_operator.builders.template import PodIdentity, pool_pod_spec
from corral_operator.decisions.actions import CreatePod
from corral_operator.decisions.task_view import TaskView
from corral_operator.names import (
    ATTEMPT_LABEL,
    EXECUTION_LABEL,
    TASK_LABEL,
    TASK_NAME_LABEL,
    label_value,
)
from corral_operator.settings import Settings


class PodMaker:
    """Makes the bodies of pods."""

    def __init__(self, settings: Settings, key: bytes) -> None:
        self._settings = settings
        self._key = key

    def tokens(self, namespace: str, pod: str) -> PodTokens:
        """Return the tokens of a pod's runner."""
        return PodTokens.of(self._key, namespace, pod)

    def cold(self, task: TaskView, action: CreatePod, secret_refs: tuple[SecretRef, ...]) -> dict[str, Any]:
        """Return the pod of one attempt of a task."""
        key = task.key
        if action.program is None:
            process: RunnerProcess | ProgramProcess = self._runner(key.namespace, action.name)
        else:
            process = ProgramProcess(action.program.argv, action.program.env)
        return sandbox_pod(
            PodSpec(
                name=action.name,
                namespace=key.namespace,
                labels={
                    TASK_LABEL: key.uid,
                    TASK_NAME_LABEL: label_value(key.name),
                    EXECUTION_LABEL: label_value(action.execution),
                    ATTEMPT_LABEL: str(action.attempt),
                },
                owner=PodOwner(API_VERSION, "AgentTask", key.name, key.uid),
                image=action.image or self._settings.sandbox_image,
                size=action.size,
                process=process,
                runtime_class=action.runtime_class or self._settings.runtime_class,
                secret_refs=secret_refs,
                active_deadline_seconds=action.deadline_seconds,
            ),
            self._settings,
        )

    def waiting(self, pool: ObjectKey, spec: SandboxPoolSpec) -> dict[str, Any]:
        """Return a new pod of a pool, with a name that no pod has had."""
        name = f"{pool.name[:50].rstrip('-.')}-{secrets.token_hex(5)}"
        tokens = self.tokens(pool.namespace, name)
        identity = PodIdentity(name, tokens.start_sha256, tokens.read_sha256)
        return sandbox_pod(pool_pod_spec(pool, spec, identity, self._settings), self._settings)

    def _runner(self, namespace: str, pod: str) -> RunnerProcess:
        tokens = self.tokens(namespace, pod)
        return RunnerProcess(
            tokens.start_sha256, tokens.read_sha256, runner_settings(self._settings, waits=False)
        )
