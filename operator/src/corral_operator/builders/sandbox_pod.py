"""The pod of one sandbox. It passes Pod Security ``restricted`` and gives its program nothing it does not need."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from corral.api import SecretRef, format_bytes
from corral.cluster.names import RUNNER_LABEL
from corral_operator.builders.resources import container_resources, memory_backed
from corral_operator.builders.runner import SCRATCH_DIRECTORIES, SECRET_PREFIX, runner_args, runner_env
from corral_operator.decisions.sizes import SandboxSize
from corral_operator.names import CONTAINER, MANAGED_BY, SANDBOX_LABEL, SANDBOX_USER
from corral_operator.settings import Settings

_SCRATCH = "scratch"
#: The runner ends its tool's processes at once when it gets SIGTERM; the default of 30 s only keeps a node's place.
_GRACE_SECONDS = 2
#: Kubernetes would wait 300 s (plugin/pkg/admission/defaulttolerationseconds) before it gives up a pod on a node that
#: does not answer. That is made for services, which it moves elsewhere. A sandbox is moved nowhere: its task waits for
#: nothing but to be told ``NodeLost``. Ten seconds more than the 40 that the node had already to answer.
_UNREACHABLE_SECONDS = 10


@dataclass(frozen=True, slots=True)
class PodOwner:
    """The object that the pod goes away with."""

    api_version: str
    kind: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class RunnerProcess:
    """The container runs the runner."""

    start_token_sha256: str
    read_token_sha256: str
    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ProgramProcess:
    """The container runs a tool's program itself, from an image without the runner."""

    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = ()
    working_directory: str = "/workspace"


Process: TypeAlias = RunnerProcess | ProgramProcess


@dataclass(frozen=True, slots=True)
class PodSpec:
    """What differs between one sandbox pod and the next."""

    name: str
    namespace: str
    labels: Mapping[str, str]
    owner: PodOwner
    image: str
    size: SandboxSize
    process: Process
    #: None: the cluster's default.
    runtime_class: str | None = None
    secret_refs: tuple[SecretRef, ...] = ()
    #: Seconds after which the kubelet ends the pod, with the operator or without. None for a waiting one.
    active_deadline_seconds: int | None = None


def sandbox_pod(spec: PodSpec, settings: Settings) -> dict[str, Any]:
    """Return the pod."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": spec.name,
            "namespace": spec.namespace,
            # Last, so that no other label can take a pod out of what the NetworkPolicy selects.
            "labels": {
                **spec.labels,
                **MANAGED_BY,
                RUNNER_LABEL: str(isinstance(spec.process, RunnerProcess)).lower(),
                SANDBOX_LABEL: "true",
            },
            "ownerReferences": [
                {
                    "apiVersion": spec.owner.api_version,
                    "kind": spec.owner.kind,
                    "name": spec.owner.name,
                    "uid": spec.owner.uid,
                    "controller": True,
                }
            ],
        },
        "spec": pod_body(spec, settings),
    }


def pod_body(spec: PodSpec, settings: Settings) -> dict[str, Any]:
    """Return ``spec`` of the pod."""
    body: dict[str, Any] = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": _GRACE_SECONDS,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "shareProcessNamespace": False,
        "hostname": "sandbox",
        "os": {"name": "linux"},
        "nodeSelector": {"kubernetes.io/os": "linux"},
        # A pod without a network is not to tell the cluster's resolver anything either. "None" needs at least one
        # server (validatePodDNSConfig, pkg/apis/core/validation); nobody listens there.
        "dnsPolicy": "None",
        "dnsConfig": {"nameservers": ["127.0.0.1"]},
        "tolerations": [
            {
                "key": f"node.kubernetes.io/{condition}",
                "operator": "Exists",
                "effect": "NoExecute",
                "tolerationSeconds": _UNREACHABLE_SECONDS,
            }
            for condition in ("not-ready", "unreachable")
        ],
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": SANDBOX_USER,
            "runAsGroup": SANDBOX_USER,
            "fsGroup": SANDBOX_USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(spec, settings)],
        "volumes": [{"name": _SCRATCH, "emptyDir": _scratch(spec.size)}],
    }
    if not settings.host_users:
        body["hostUsers"] = False
    if spec.runtime_class is not None:
        body["runtimeClassName"] = spec.runtime_class
    if spec.active_deadline_seconds is not None:
        body["activeDeadlineSeconds"] = spec.active_deadline_seconds
    if settings.service_account is not None:
        body["serviceAccountName"] = settings.service_account
    if settings.image_pull_secrets:
        body["imagePullSecrets"] = [{"name": name} for name in settings.image_pull_secrets]
    return body


def _container(spec: PodSpec, settings: Settings) -> dict[str, Any]:
    # No probes: a kubelet asks once a second at best, while whoever needs the runner connects to it and is answered
    # in milliseconds. No lifecycle hooks: they would run before and after every task for nothing.
    return {
        "name": CONTAINER,
        "image": spec.image,
        "imagePullPolicy": settings.image_pull_policy,
        **_process(spec),
        "resources": container_resources(spec.size, settings, runner=isinstance(spec.process, RunnerProcess)),
        "resizePolicy": resize_policy(),
        # What the runner dies of is in its log; its last lines come with the pod's status.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "privileged": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
        },
        "volumeMounts": [
            {"name": _SCRATCH, "mountPath": path, "subPath": path.rpartition("/")[2]}
            for path in SCRATCH_DIRECTORIES
        ],
    }


def resize_policy() -> list[dict[str, str]]:
    """Return ``resizePolicy`` of the container: more of either never restarts it."""
    return [{"resourceName": name, "restartPolicy": "NotRequired"} for name in ("cpu", "memory")]


def _process(spec: PodSpec) -> dict[str, Any]:
    process = spec.process
    if isinstance(process, RunnerProcess):
        tokens = runner_env(process.start_token_sha256, process.read_token_sha256)
        return {
            "args": runner_args(dict(process.settings)),
            "workingDir": "/workspace",
            "env": [*tokens, *_secrets(spec.secret_refs, SECRET_PREFIX)],
        }
    return {
        "command": [_literal(word) for word in process.argv],
        "workingDir": process.working_directory,
        "env": [
            *({"name": name, "value": _literal(value)} for name, value in process.env),
            *_secrets(spec.secret_refs, ""),
        ],
    }


def _secrets(references: tuple[SecretRef, ...], prefix: str) -> list[dict[str, Any]]:
    """Return the variables that the kubelet fills, so that the operator needs no right to read secrets."""
    return [
        {
            "name": f"{prefix}{reference.env}",
            "valueFrom": {
                "secretKeyRef": {"name": reference.name, "key": reference.key, "optional": False},
            },
        }
        for reference in references
    ]


def _literal(text: str) -> str:
    """Return a text as it must be written to arrive as it is.

    The kubelet replaces ``$(NAME)`` in commands and values, and reads ``$$`` as ``$`` (third_party/forked/golang/
    expansion): a task could otherwise read one variable through another.
    """
    return text.replace("$", "$$")


def _scratch(size: SandboxSize) -> dict[str, Any]:
    """Return the one volume behind every directory a tool may write to: three would bound their sum by nothing.

    Directories of it can be mounted for a user other than root: the kubelet makes them before the container starts,
    with the mode of the volume itself, which is 0777 for an emptyDir (``makeMounts``, pkg/kubelet/kubelet_pods.go;
    ``perm``, pkg/volume/emptydir). One mounted at /dev/shm takes the place of the runtime's own.
    """
    volume: dict[str, Any] = {"sizeLimit": format_bytes(size.disk_bytes)}
    if memory_backed(size):
        volume["medium"] = "Memory"
    return volume
