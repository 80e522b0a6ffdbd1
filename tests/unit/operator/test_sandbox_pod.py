"""The pod of a sandbox: what it may do, what it gets, and that nothing weakens it."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from corral.api import SecretRef
from corral_operator.builders.runner import runner_settings
from corral_operator.builders.sandbox_pod import (
    PodOwner,
    PodSpec,
    ProgramProcess,
    RunnerProcess,
    sandbox_pod,
)
from corral_operator.decisions.sizes import SandboxSize
from corral_operator.settings import Settings
from unit.operator.factories import MIB, SIZE
from unit.operator.pod_security import violations

SETTINGS = Settings()
OWNER = PodOwner("corral.dev/v1alpha1", "AgentTask", "totals", "task-uid")
SPEC = PodSpec(
    name="totals-0123456789ab",
    namespace="team",
    labels={"corral.dev/task-uid": "task-uid"},
    owner=OWNER,
    image="corral/sandbox:1",
    size=SIZE,
    process=RunnerProcess("aa", "bb", runner_settings(SETTINGS, waits=False)),
    secret_refs=(SecretRef(name="db", key="password", env="DB_PASSWORD"),),
    active_deadline_seconds=600,
)
PROGRAM = replace(
    SPEC,
    image="python:3.12",
    process=ProgramProcess(("sh", "-c", "echo $(DB_PASSWORD) $HOME"), (("PRICE", "$$5 $(X)"),), "/work"),
)
SPECS = {
    "with a runner": SPEC,
    "a program": PROGRAM,
    "on a disk": replace(SPEC, size=replace(SIZE, disk_bytes=4096 * MIB)),
    "in gVisor": replace(SPEC, runtime_class="gvisor"),
}


def _container(spec: PodSpec, settings: Settings = SETTINGS) -> dict[str, Any]:
    container: dict[str, Any] = sandbox_pod(spec, settings)["spec"]["containers"][0]
    return container


def test_M1_the_whole_pod_of_a_runner() -> None:
    runner = (
        '{"fileSystems":["/workspace","/tmp","/dev/shm"],"lingerSeconds":900.0,"listen":{"port":7070},'
        '"outer":["pidns","mountns","netns","ipcns","utsns","cgroupns"],"preload":[],"privateUsers":false}'
    )
    assert sandbox_pod(SPEC, SETTINGS) == {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "totals-0123456789ab",
            "namespace": "team",
            "labels": {
                "corral.dev/task-uid": "task-uid",
                "app.kubernetes.io/managed-by": "corral-operator",
                "corral.dev/runner": "true",
                "corral.dev/sandbox": "true",
            },
            "ownerReferences": [
                {
                    "apiVersion": "corral.dev/v1alpha1",
                    "kind": "AgentTask",
                    "name": "totals",
                    "uid": "task-uid",
                    "controller": True,
                }
            ],
        },
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 2,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "shareProcessNamespace": False,
            "hostname": "sandbox",
            "os": {"name": "linux"},
            "nodeSelector": {"kubernetes.io/os": "linux"},
            "dnsPolicy": "None",
            "dnsConfig": {"nameservers": ["127.0.0.1"]},
            "tolerations": [
                {
                    "key": key,
                    "operator": "Exists",
                    "effect": "NoExecute",
                    "tolerationSeconds": 10,
                }
                for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
            ],
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "runAsGroup": 65532,
                "fsGroup": 65532,
                "fsGroupChangePolicy": "OnRootMismatch",
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "activeDeadlineSeconds": 600,
            "containers": [
                {
                    "name": "sandbox",
                    "image": "corral/sandbox:1",
                    "imagePullPolicy": "IfNotPresent",
                    "args": [runner],
                    "workingDir": "/workspace",
                    "env": [
                        {
                            "name": "CORRAL_LISTEN_HOST",
                            "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}},
                        },
                        {"name": "CORRAL_START_TOKEN_SHA256", "value": "aa"},
                        {"name": "CORRAL_READ_TOKEN_SHA256", "value": "bb"},
                        {
                            "name": "CORRAL_SECRET_DB_PASSWORD",
                            "valueFrom": {
                                "secretKeyRef": {"name": "db", "key": "password", "optional": False}
                            },
                        },
                    ],
                    "resources": {
                        "limits": {"cpu": "1", "memory": "672Mi", "ephemeral-storage": "64Mi"},
                        "requests": {"cpu": "100m", "memory": "168Mi", "ephemeral-storage": "0"},
                    },
                    "resizePolicy": [
                        {"resourceName": "cpu", "restartPolicy": "NotRequired"},
                        {"resourceName": "memory", "restartPolicy": "NotRequired"},
                    ],
                    "terminationMessagePolicy": "FallbackToLogsOnError",
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                        "privileged": False,
                        "readOnlyRootFilesystem": True,
                        "runAsNonRoot": True,
                    },
                    "volumeMounts": [
                        {"name": "scratch", "mountPath": "/workspace", "subPath": "workspace"},
                        {"name": "scratch", "mountPath": "/tmp", "subPath": "tmp"},
                        {"name": "scratch", "mountPath": "/dev/shm", "subPath": "shm"},
                    ],
                }
            ],
            "volumes": [{"name": "scratch", "emptyDir": {"medium": "Memory", "sizeLimit": "128Mi"}}],
        },
    }


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@pytest.mark.parametrize("host_users", [True, False])
def test_B14_every_pod_passes_pod_security_restricted(spec: PodSpec, host_users: bool) -> None:  # noqa: FBT001
    body = sandbox_pod(spec, Settings(host_users=host_users))["spec"]
    assert violations(body) == []
    assert body.get("hostUsers", True) is host_users


def _pod(**fields: Any) -> Callable[[dict[str, Any]], None]:
    return lambda spec: spec.update(fields)


def _pod_context(**fields: Any) -> Callable[[dict[str, Any]], None]:
    return lambda spec: spec["securityContext"].update(fields)


def _context(**fields: Any) -> Callable[[dict[str, Any]], None]:
    return lambda spec: spec["containers"][0]["securityContext"].update(fields)


@pytest.mark.parametrize(
    ("weaken", "found"),
    [
        (_pod(hostNetwork=True), "hostNetwork"),
        (_pod(hostPID=True), "hostPID"),
        (_pod(hostIPC=True), "hostIPC"),
        (_pod(volumes=[{"name": "host", "hostPath": {"path": "/"}}]), "volume host"),
        (_pod_context(runAsUser=0), "runAsUser"),
        (_pod_context(sysctls=[{"name": "kernel.msgmax", "value": "1"}]), "sysctls"),
        (_pod_context(seccompProfile={"type": "Unconfined"}), "seccompProfile"),
        (_pod_context(seccompProfile={}), "seccompProfile"),
        (_pod_context(appArmorProfile={"type": "Unconfined"}), "appArmorProfile"),
        (_context(runAsNonRoot=False), "runAsNonRoot"),
        (_context(privileged=True), "privileged"),
        (_context(allowPrivilegeEscalation=True), "allowPrivilegeEscalation"),
        (_context(capabilities={}), "capabilities are not dropped"),
        (_context(capabilities={"drop": ["ALL"], "add": ["SYS_ADMIN"]}), "capabilities are added"),
        (_context(procMount="Unmasked"), "procMount"),
        (_context(runAsUser=0), "runAsUser"),
        (_context(seccompProfile={"type": "Unconfined"}), "seccompProfile"),
        (lambda spec: spec["containers"][0].update(ports=[{"hostPort": 80}]), "hostPort"),
        (
            lambda spec: spec["containers"][0].update(livenessProbe={"tcpSocket": {"host": "10.0.0.1"}}),
            "host of a probe",
        ),
    ],
)
def test_B14_a_weaker_pod_would_not_pass(weaken: Callable[[dict[str, Any]], None], found: str) -> None:
    body = copy.deepcopy(sandbox_pod(SPEC, SETTINGS)["spec"])
    weaken(body)
    assert found in violations(body)


def test_M3_a_label_of_a_task_cannot_take_a_pod_out_of_the_network_policy() -> None:
    spec = replace(SPEC, labels={"corral.dev/sandbox": "false", "app.kubernetes.io/managed-by": "me"})
    assert sandbox_pod(spec, SETTINGS)["metadata"]["labels"] == {
        "corral.dev/sandbox": "true",
        "app.kubernetes.io/managed-by": "corral-operator",
        "corral.dev/runner": "true",
    }


def test_a_program_is_run_word_for_word_and_gets_its_secrets_by_their_own_names() -> None:
    container = _container(PROGRAM)
    assert container["command"] == ["sh", "-c", "echo $$(DB_PASSWORD) $$HOME"]
    assert container["workingDir"] == "/work"
    assert container["env"] == [
        {"name": "PRICE", "value": "$$$$5 $$(X)"},
        {
            "name": "DB_PASSWORD",
            "valueFrom": {"secretKeyRef": {"name": "db", "key": "password", "optional": False}},
        },
    ]


def test_M2_a_program_without_a_runner_gets_no_memory_for_one() -> None:
    assert _container(PROGRAM)["resources"]["limits"]["memory"] == "640Mi"


@pytest.mark.parametrize(
    ("disk_mib", "volume", "memory", "storage"),
    [
        (1024, {"sizeLimit": "1Gi", "medium": "Memory"}, "1568Mi", "64Mi"),
        (1025, {"sizeLimit": "1025Mi"}, "544Mi", "1089Mi"),
    ],
)
def test_M2_scratch_is_memory_up_to_a_gibibyte_and_a_disk_above(
    disk_mib: int, volume: dict[str, str], memory: str, storage: str
) -> None:
    body = sandbox_pod(replace(SPEC, size=replace(SIZE, disk_bytes=disk_mib * MIB)), SETTINGS)["spec"]
    limits = body["containers"][0]["resources"]["limits"]
    assert body["volumes"] == [{"name": "scratch", "emptyDir": volume}]
    assert (limits["memory"], limits["ephemeral-storage"]) == (memory, storage)


def test_requests_are_the_fractions_of_the_settings_and_a_disk_is_reserved_whole() -> None:
    settings = Settings(cpu_request_fraction=0.5, memory_request_fraction=0)
    size = SandboxSize(0.5, 512 * MIB, 2048 * MIB)
    assert _container(replace(SPEC, size=size), settings)["resources"]["requests"] == {
        "cpu": "250m",
        "memory": "0",
        "ephemeral-storage": "2Gi",
    }


def test_B14_a_user_namespace_of_its_own_is_told_to_the_runner() -> None:
    told = runner_settings(Settings(host_users=False), waits=False)
    assert told["privateUsers"] is True
    assert told["outer"][0] == "userns"


def test_the_settings_of_the_cluster_reach_the_pod() -> None:
    settings = Settings(
        service_account="sandbox", image_pull_secrets=("registry",), image_pull_policy="Always"
    )
    body = sandbox_pod(replace(SPEC, runtime_class="kata"), settings)["spec"]
    assert body["serviceAccountName"] == "sandbox"
    assert body["imagePullSecrets"] == [{"name": "registry"}]
    assert body["runtimeClassName"] == "kata"
    assert body["containers"][0]["imagePullPolicy"] == "Always"
    assert body["automountServiceAccountToken"] is False


def test_what_a_pod_is_told_is_what_the_runner_reads() -> None:
    from corral_runner.settings import Settings as RunnerSettings

    read = RunnerSettings(json.loads(_container(SPEC)["args"][-1]))
    assert read.linger_seconds == 900
    assert read.listen == {"port": 7070}
    assert read.file_systems == ["/workspace", "/tmp", "/dev/shm"]
    assert read.private_users is False
    assert read.outer == ["pidns", "mountns", "netns", "ipcns", "utsns", "cgroupns"]
