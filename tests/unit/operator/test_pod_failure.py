"""What Kubernetes does to a pod, and what its task is told."""

from datetime import timedelta
from typing import Any

import pytest

from corral.api import Reason
from corral_operator.decisions.plain_result import PlainResult, plain_result
from corral_operator.decisions.pod_failure import PodFailure, patience_ends, pod_failure, pod_gone
from unit.operator.factories import NOW, RUNNING, pod, terminated, waiting

PATIENCE = timedelta(seconds=300)
#: Eviction messages as pkg/kubelet/eviction/helpers.go has them.
LOW = "The node was low on resource: memory. Container sandbox was using 9Mi, which exceeds its request of 1Mi. "
FULL = 'Usage of EmptyDir volume "scratch" exceeds the limit "2Gi". '
LOG = 'Container sandbox exceeded its local ephemeral storage limit "64Mi". '
POD_FULL = "Pod ephemeral local storage usage exceeds the total limit of containers 2Gi. "

PENDING = {"phase": "Pending"}
ENDED = {"phase": "Failed"}
FULL_POD = {**ENDED, "reason": "Evicted", "state": RUNNING}

FAILED: list[tuple[str, dict[str, Any], Reason, bool | None]] = [
    ("bad image name", {**PENDING, "state": waiting("InvalidImageName")}, Reason.IMAGE_PULL_FAILED, False),
    ("never pull", {**PENDING, "state": waiting("ErrImageNeverPull")}, Reason.IMAGE_PULL_FAILED, False),
    ("pull", {**PENDING, "state": waiting("ErrImagePull")}, Reason.IMAGE_PULL_FAILED, False),
    ("back-off", {**PENDING, "state": waiting("ImagePullBackOff")}, Reason.IMAGE_PULL_FAILED, False),
    ("registry", {**PENDING, "state": waiting("RegistryUnavailable")}, Reason.IMAGE_PULL_FAILED, False),
    ("inspect", {**PENDING, "state": waiting("ImageInspectError")}, Reason.IMAGE_PULL_FAILED, False),
    ("signature", {**PENDING, "state": waiting("SignatureValidationFailed")}, Reason.IMAGE_PULL_FAILED, False),
    ("secret", {**PENDING, "state": waiting("CreateContainerConfigError")}, Reason.INVALID_SPEC, False),
    ("create", {**PENDING, "age": 301, "state": waiting("CreateContainerError")}, Reason.SANDBOX_FAILED, False),
    ("run", {**PENDING, "age": 301, "state": waiting("RunContainerError")}, Reason.SANDBOX_FAILED, False),
    ("slow", {**PENDING, "age": 301, "state": waiting("ContainerCreating")}, Reason.SANDBOX_FAILED, False),
    ("no status", {**PENDING, "age": 301}, Reason.SANDBOX_FAILED, False),
    ("no node", {**PENDING, "age": 301, "node": None}, Reason.UNSCHEDULABLE, False),
    ("start", {**ENDED, "state": terminated("StartError", 128)}, Reason.SANDBOX_FAILED, False),
    ("cannot run", {**ENDED, "state": terminated("ContainerCannotRun", 127)}, Reason.SANDBOX_FAILED, False),
    ("oom", {**ENDED, "state": terminated("OOMKilled", 137)}, Reason.OUT_OF_MEMORY, None),
    ("crash", {**ENDED, "state": terminated("Error", 1)}, Reason.SANDBOX_FAILED, None),
    ("runner left", {"phase": "Succeeded", "state": terminated("Completed", 0)}, Reason.SANDBOX_FAILED, None),
    ("reboot", {**ENDED, "state": terminated("Unknown", 255)}, Reason.NODE_LOST, None),
    ("lost", {**ENDED, "state": terminated("ContainerStatusUnknown", 137)}, Reason.NODE_LOST, None),
    (
        "node pressure",
        {
            "phase": "Failed",
            "reason": "Evicted",
            "message": LOW,
            "disruption": "TerminationByKubelet",
            "state": terminated("Error", 137),
        },
        Reason.EVICTED,
        None,
    ),
    ("pressure at the door", {**ENDED, "reason": "Evicted", "message": LOW}, Reason.EVICTED, False),
    ("volume full", {**FULL_POD, "message": FULL}, Reason.DISK_LIMIT, None),
    ("log full", {**FULL_POD, "message": LOG}, Reason.DISK_LIMIT, None),
    ("pod full", {**FULL_POD, "message": POD_FULL}, Reason.DISK_LIMIT, None),
    ("drain", {"deleting": True, "disruption": "EvictionByEvictionAPI", "state": RUNNING}, Reason.EVICTED, None),
    ("preempted", {"deleting": True, "disruption": "PreemptionByScheduler", "state": RUNNING}, Reason.EVICTED, None),
    (
        "taint on a node that answers",
        {"deleting": True, "disruption": "DeletionByTaintManager", "ready": True, "state": RUNNING},
        Reason.EVICTED,
        None,
    ),
    (
        "taint on a node that does not",
        {"deleting": True, "disruption": "DeletionByTaintManager", "state": RUNNING},
        Reason.NODE_LOST,
        None,
    ),
    ("pod gc", {"deleting": True, "disruption": "DeletionByPodGC", "state": RUNNING}, Reason.NODE_LOST, None),
    ("node lost", {"reason": "NodeLost", "state": RUNNING}, Reason.NODE_LOST, None),
    ("shutdown", {**ENDED, "reason": "Terminated", "state": terminated("Error", 143)}, Reason.EVICTED, None),
    ("shutdown at the door", {**ENDED, "reason": "NodeShutdown"}, Reason.EVICTED, False),
    ("critical pod", {**ENDED, "reason": "Preempting", "state": terminated("Error", 137)}, Reason.EVICTED, None),
    ("no cpu", {**ENDED, "reason": "OutOfcpu"}, Reason.UNSCHEDULABLE, False),
    ("no memory", {**ENDED, "reason": "OutOfmemory"}, Reason.UNSCHEDULABLE, False),
    ("no place", {**ENDED, "reason": "OutOfpods"}, Reason.UNSCHEDULABLE, False),
    ("affinity", {**ENDED, "reason": "NodeAffinity"}, Reason.UNSCHEDULABLE, False),
    ("admission", {**ENDED, "reason": "UnexpectedAdmissionError"}, Reason.SANDBOX_FAILED, False),
    ("unheard of", {**ENDED, "reason": "Gremlins"}, Reason.SANDBOX_FAILED, False),
    ("deadline", {**ENDED, "reason": "DeadlineExceeded", "state": RUNNING}, Reason.DEADLINE_EXCEEDED, None),
    ("deleted before it ran", {**PENDING, "deleting": True}, Reason.SANDBOX_FAILED, False),
    ("deleted", {"deleting": True, "state": RUNNING}, Reason.SANDBOX_FAILED, None),
]  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "reason", "ran"), [row[1:] for row in FAILED], ids=[row[0] for row in FAILED]
)
def test_B2_each_cause_has_its_reason(fields: dict[str, Any], reason: Reason, ran: bool | None) -> None:  # noqa: FBT001
    failure = pod_failure(pod(**fields), NOW, PATIENCE)
    assert failure is not None
    assert (failure.reason, failure.ran) == (reason, ran)


FROZEN = (
    "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: "
    "unable to start container process: error during container init: error setting cgroup config for procHooks "
    "process: unable to freeze"
)
NO_PROGRAM = 'OCI runtime create failed: runc create failed: exec: "nope": executable file not found in $PATH'


@pytest.mark.parametrize(
    ("fields", "elsewhere"),
    [
        ({**ENDED, "state": terminated("StartError", 128, message=FROZEN)}, True),
        ({**ENDED, "state": terminated("ContainerCannotRun", 127, message=FROZEN)}, True),
        ({**ENDED, "state": terminated("StartError", 128, message=NO_PROGRAM)}, False),
        ({**ENDED, "state": terminated("StartError", 128, message="exec /x: Exec format error")}, False),
        ({**ENDED, "state": terminated("StartError", 128, message="container init was OOM-killed")}, False),
        ({**ENDED, "state": terminated("StartError", 128)}, False),
        ({**ENDED, "state": terminated("Error", 1, message=FROZEN)}, False),
        ({**ENDED, "reason": "OutOfcpu"}, True),
        ({**ENDED, "reason": "NodeAffinity"}, True),
        ({**ENDED, "reason": "UnexpectedAdmissionError"}, True),
        ({**ENDED, "reason": "Evicted", "message": LOW}, False),
        ({**PENDING, "age": 301, "node": None}, False),
    ],
)
def test_B2_what_a_node_could_not_start_or_refused_may_be_tried_elsewhere(
    fields: dict[str, Any],
    elsewhere: bool,  # noqa: FBT001
) -> None:
    failure = pod_failure(pod(**fields), NOW, PATIENCE)
    assert failure is not None
    assert failure.elsewhere is elsewhere
    assert failure.ran is False or not elsewhere


def test_B2_the_node_is_named_that_could_not_start_a_container() -> None:
    failure = pod_failure(
        pod(phase="Failed", state=terminated("StartError", 128, message="unable to freeze")), NOW, PATIENCE
    )
    assert failure is not None
    assert failure.message == (
        "pod box on node node-1: its node could not start its container (unable to freeze). Run the task again; if it "
        "repeats on this node, look at the node's container runtime"
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"phase": "Pending"},
        {"phase": "Pending", "node": None, "age": 299},
        {"phase": "Pending", "state": waiting("ContainerCreating")},
        {"phase": "Pending", "age": 29, "state": waiting("ErrImagePull")},
        {"phase": "Pending", "state": waiting("CreateContainerError")},
        {"state": RUNNING},
        {"state": RUNNING, "ready": True, "age": 86400},
        # A scheduler that wanted to preempt it and did not.
        {"state": RUNNING, "disruption": "PreemptionByScheduler"},
    ],
)
def test_B2_what_may_still_come_right_is_no_failure(fields: dict[str, Any]) -> None:
    assert pod_failure(pod(**fields), NOW, PATIENCE) is None


def test_B2_the_message_says_what_happened_where_and_what_to_do() -> None:
    said = 'Back-off pulling image "nope:1"'
    failure = pod_failure(pod(phase="Pending", state=waiting("ImagePullBackOff", said)), NOW, PATIENCE)
    assert failure == PodFailure(
        Reason.IMAGE_PULL_FAILED,
        f"pod box on node node-1: its image cannot be fetched (ImagePullBackOff: {said}). "
        "Check the image's name, the registry, and the image pull secrets of the chart",
        ran=False,
        still_tried=True,
    )


def test_B2_a_missing_secret_names_the_field_and_the_schedulers_words_are_kept() -> None:
    message = 'secret "db" not found'
    failure = pod_failure(
        pod(phase="Pending", state=waiting("CreateContainerConfigError", message)), NOW, PATIENCE
    )
    assert failure is not None
    assert failure.field == "spec.secretRefs"
    assert message in failure.message
    words = "0/3 nodes are available: 3 Insufficient memory."
    failure = pod_failure(pod(phase="Pending", node=None, age=301, scheduler_says=words), NOW, PATIENCE)
    assert failure is not None
    assert failure.message == (
        "pod box: no node took it in time (0/3 nodes are available: 3 Insufficient memory). "
        "Ask for less, come back later, or give the cluster more nodes"
    )


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ({"phase": "Pending", "node": None}, 300),
        ({"phase": "Pending", "state": waiting("ContainerCreating")}, 300),
        ({"phase": "Pending", "state": waiting("ErrImagePull")}, 30),
        ({"phase": "Pending", "state": waiting("InvalidImageName")}, 0),
        ({"state": RUNNING}, None),
        ({"phase": "Pending", "deleting": True}, None),
        ({"phase": "Failed", "reason": "Evicted"}, None),
    ],
)
def test_patience_ends_when_the_failure_begins(fields: dict[str, Any], seconds: float | None) -> None:
    seen = pod(age=0, **fields)
    end = patience_ends(seen, PATIENCE)
    assert end == (None if seconds is None else NOW + timedelta(seconds=seconds))
    if end is not None:
        assert pod_failure(seen, end, PATIENCE) is not None
        assert pod_failure(seen, end - timedelta(milliseconds=1), PATIENCE) is None


def test_B2_a_pod_that_is_gone_is_told_by_what_it_was_last_seen_to_suffer() -> None:
    evicted = pod(phase="Failed", reason="Evicted", message=LOW)
    assert pod_gone("box", "node-1", evicted) == pod_failure(evicted, NOW, PATIENCE)
    gone = PodFailure(
        Reason.SANDBOX_FAILED,
        "pod box on node node-1 is gone: it was deleted by somebody other than Corral, or with its node, before its "
        "task ended. Run the task again",
        ran=None,
    )
    assert pod_gone("box", "node-1") == gone
    assert pod_gone("box", "node-1", pod(state=RUNNING)) == gone


@pytest.mark.parametrize(
    ("fields", "result"),
    [
        ({"state": RUNNING}, None),
        (
            {"phase": "Succeeded", "state": terminated("Completed", 0)},
            PlainResult(Reason.COMPLETED, "the program ended well", 0),
        ),
        (
            {"phase": "Failed", "state": terminated("Error", 3)},
            PlainResult(Reason.TOOL_ERROR, "the program ended with exit code 3", 3),
        ),
        (
            {"phase": "Failed", "state": terminated("Error", 139)},
            PlainResult(Reason.TOOL_ERROR, "the program was ended by signal 11", signal=11),
        ),
        (
            {"phase": "Failed", "state": terminated("Error", 255)},
            PlainResult(Reason.TOOL_ERROR, "the program ended with exit code 255", 255),
        ),
        (
            {"phase": "Failed", "state": terminated("OOMKilled", 137)},
            PlainResult(
                Reason.OUT_OF_MEMORY,
                "the program needed more memory than limits.memory, and the kernel killed it",
                signal=9,
            ),
        ),
        (
            {"phase": "Failed", "state": terminated("StartError", 128, message="exec: no such file")},
            PlainResult(Reason.TOOL_ERROR, "the program could not be started: exec: no such file", 128),
        ),
        # What the cluster or the node did is told by pod_failure.
        ({"phase": "Failed", "state": terminated("StartError", 128, message=FROZEN)}, None),
        ({"phase": "Failed", "reason": "Evicted", "message": LOW, "state": terminated("Error", 137)}, None),
        ({"phase": "Failed", "state": terminated("Unknown", 255)}, None),
        ({"phase": "Failed", "state": terminated("ContainerStatusUnknown", 137)}, None),
        ({"phase": "Failed", "deleting": True, "state": terminated("Error", 143)}, None),
    ],
)
def test_B2_how_a_program_without_a_runner_ended(fields: dict[str, Any], result: PlainResult | None) -> None:
    assert plain_result(pod(**fields)) == result


def test_M2_a_program_that_outlives_its_deadline_or_fills_its_disk_did_so_itself() -> None:
    late = plain_result(pod(phase="Failed", reason="DeadlineExceeded", state=terminated("Error", 137)))
    full = plain_result(pod(phase="Failed", reason="Evicted", message=FULL, state=terminated("Error", 137)))
    assert late is not None
    assert full is not None
    assert (late.reason, full.reason) == (Reason.DEADLINE_EXCEEDED, Reason.DISK_LIMIT)
