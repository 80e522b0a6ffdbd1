"""The causes of a pod's failure, by the words that Kubernetes has for them."""

from dataclasses import dataclass, replace
from types import MappingProxyType

from corral.api import Reason
from corral_operator.views import ContainerView, PodView


@dataclass(frozen=True, slots=True)
class Cause:
    """One cause: what it means for an execution, and what people are told."""

    reason: Reason
    what: str
    remedy: str
    #: What the cluster says itself.
    said: str = ""
    #: Waiting does not help.
    hopeless: bool = False
    #: It strikes before the container starts.
    before_start: bool = False
    #: Nothing ran, and nothing of the task is to blame: another pod may do.
    elsewhere: bool = False
    field: str | None = None


_AGAIN = "Run the task again"
_ENDED = "Run the task again; the sandbox, not the tool, was the cause"

# --- containers that wait ---
_IMAGE = Cause(
    Reason.IMAGE_PULL_FAILED,
    "its image cannot be fetched",
    "Check the image's name, the registry, and the image pull secrets of the chart",
)
_NAME = replace(
    _IMAGE, what="the name of its image is none", remedy="Correct the image's name", hopeless=True
)
_ABSENT = replace(
    _IMAGE,
    what="its image is not on the node, and the pull policy forbids to fetch it",
    remedy="Load the image into the nodes, or set another imagePullPolicy in the chart",
    hopeless=True,
)
_UNSIGNED = replace(
    _IMAGE,
    what="the node refuses the signature of its image",
    remedy="Sign the image, or ask whoever runs the nodes which signatures they accept",
)
#: The kubelet tries for ever, and a Secret may yet come; but a task names Secrets that exist.
_CONFIG = Cause(
    Reason.INVALID_SPEC,
    "a Secret that the task names, or a key in it, is not there",
    "Create it in the task's namespace, or correct spec.secretRefs",
    hopeless=True,
    field="spec.secretRefs",
)
_CREATE = Cause(
    Reason.SANDBOX_FAILED,
    "the container runtime could not make its container",
    f"{_AGAIN}; if it repeats on this node, look at the node's container runtime",
)
_START = replace(
    _CREATE,
    what="its container could not be started",
    remedy="Check that the image has the program, for this node's architecture; for a runner, that it is "
    "Corral's sandbox image",
)
_NODE_COULD_NOT = replace(_CREATE, what="its node could not start its container", elsewhere=True)
_SLOW = Cause(
    Reason.SANDBOX_FAILED,
    "its container did not start in time",
    f"{_AGAIN}; the pod's events tell what it waited for: a large image, a volume, or the network",
)

_WAITING = MappingProxyType(
    {
        "ErrImagePull": _IMAGE,
        "ImagePullBackOff": _IMAGE,
        "ImageInspectError": _IMAGE,
        "RegistryUnavailable": _IMAGE,
        "InvalidImageName": _NAME,
        "ErrImageNeverPull": _ABSENT,
        "SignatureValidationFailed": _UNSIGNED,
        "CreateContainerConfigError": _CONFIG,
        "CreateContainerError": _CREATE,
        "CreatePodSandboxError": _CREATE,
        "RunContainerError": _START,
        "StartError": _START,
        "PreStartHookError": _START,
        "ContainerCannotRun": _START,
    }
)

# --- containers that ended ---
#: Ends of containers that never ran: containerd's and Docker's words.
NEVER_STARTED = frozenset({"StartError", "ContainerCannotRun"})
#: What runtimes say (runc, crun, runsc) of what no node can start. Everything else that they say is trouble of their
#: node: of a cgroup that does not freeze (kubernetes/kubernetes#131087), of a lack of memory or of time.
_TASK_TO_BLAME = (
    "no such file",
    "not found",
    "permission denied",
    "exec format error",
    "not a directory",
    "is a directory",
    "argument list too long",
    "no matching entries in passwd",
    "oom-killed",
)
#: What they say where the process may have begun all the same.
_TOO_LATE = ("deadline exceeded", "canceled", "ttrpc", "poststart")
_NODE_RESTARTED = Cause(
    Reason.NODE_LOST,
    "the node lost sight of its container, as after a restart of the node",
    "Run it again if the tool may run twice",
)
_OUT_OF_MEMORY = Cause(
    Reason.OUT_OF_MEMORY,
    "the kernel killed everything in it: its memory limit was reached",
    "Raise limits.memory, or work on less data at a time",
)

# --- pods that ended ---
_PRESSURE = Cause(
    Reason.EVICTED,
    "the node ran short of something and put it out",
    "Run it again; if it repeats, give the task limits nearer to what it really uses",
)
_DISK = Cause(
    Reason.DISK_LIMIT,
    "it wrote more than its disk limit",
    "Raise limits.disk, or write less",
)
_DRAINED = replace(
    _PRESSURE,
    what="it was evicted through the API, as when its node is drained",
    remedy=_AGAIN,
)
_PREEMPTED = replace(
    _PRESSURE,
    what="it had to make room for a pod of higher priority",
    remedy=f"{_AGAIN}; if it repeats, the cluster needs more nodes",
)
_TAINTED = replace(_PRESSURE, what="its node was given a taint that it does not tolerate", remedy=_AGAIN)
_SHUTDOWN = replace(_PRESSURE, what="its node was shut down", remedy=_AGAIN)
_NODE = Cause(
    Reason.NODE_LOST,
    "its node does not answer any more; whether the tool had finished is not known",
    "Run it again if the tool may run twice",
)
_NO_ROOM = Cause(
    Reason.UNSCHEDULABLE,
    "its node had no room for it after all",
    "Run it again: another node will be looked for",
    before_start=True,
    elsewhere=True,
)
_UNFIT = replace(
    _NO_ROOM,
    what="its node does not fit it any more",
)
_NOT_ADMITTED = Cause(
    Reason.SANDBOX_FAILED,
    "its node refused it",
    f"{_AGAIN}; if it repeats on this node, look at its kubelet",
    before_start=True,
    elsewhere=True,
)
_DEADLINE = Cause(
    Reason.DEADLINE_EXCEEDED,
    "it ran longer than its activeDeadlineSeconds, and the kubelet ended it",
    "Raise the time limits, or give the tool less to do",
)

_STATUS = MappingProxyType(
    {
        "Evicted": _PRESSURE,
        "NodeLost": _NODE,
        "DeadlineExceeded": _DEADLINE,
        "Preempting": replace(_PREEMPTED, what="it had to make room for a critical pod of the node"),
        "NodeShutdown": replace(_SHUTDOWN, before_start=True),
        "Terminated": _SHUTDOWN,
        "Shutdown": _SHUTDOWN,
        "NodeAffinity": _UNFIT,
        "NodeName": _UNFIT,
        "NodePorts": _NO_ROOM,
        "TaintToleration": _UNFIT,
        "TopologyAffinityError": _NO_ROOM,
        "UnexpectedAdmissionError": _NOT_ADMITTED,
    }
)

_DISRUPTIONS = MappingProxyType(
    {
        "PreemptionByScheduler": _PREEMPTED,
        "EvictionByEvictionAPI": _DRAINED,
        "DeletionByTaintManager": _TAINTED,
        # The garbage collector takes pods whose node is gone, or out of service (pkg/controller/podgc).
        "DeletionByPodGC": replace(
            _NODE, what="its node is gone; whether the tool had finished is not known"
        ),
    }
)
#: Beginnings of the kubelet's messages where it was not the node that was short: the pod went over its own limit
#: (``emptyDirMessageFmt`` and its neighbours, pkg/kubelet/eviction/helpers.go). Such evictions set no condition.
_OWN_FAULT = ("Usage of EmptyDir volume", "Pod ephemeral local storage usage exceeds", "Container ")
_OWN_FAULT_PART = (
    "exceeds the limit",
    "exceeds the total limit",
    "exceeded its local ephemeral storage limit",
)


def of_waiting(container: ContainerView) -> Cause:
    """Return what keeps a container of a scheduled pod from running."""
    cause = _WAITING.get(container.waiting or "", _SLOW)
    words = [container.waiting or "", container.waiting_message]
    return replace(cause, said=": ".join(word for word in words if word))


def unscheduled(pod: PodView) -> Cause:
    """Return what keeps a pod from getting a node."""
    return Cause(
        Reason.UNSCHEDULABLE,
        "no node took it in time",
        "Ask for less, come back later, or give the cluster more nodes",
        said=pod.scheduling_message.rstrip(". "),
    )


def of_terminated(container: ContainerView) -> Cause | None:
    """Return how a container ended, taken by itself."""
    if container.terminated is None:
        return None
    said = container.terminated_message.strip()
    code = container.exit_code
    # Containerd has no exit code of a container whose process it did not see end: 255 and "Unknown"
    # (internal/cri/server, unknownExitCode). The kubelet calls one that it cannot find ContainerStatusUnknown.
    lost = container.terminated == "Unknown" and code == 255
    if container.terminated == "ContainerStatusUnknown" or lost:
        return replace(_NODE_RESTARTED, said=said)
    if container.terminated == "OOMKilled":
        return _OUT_OF_MEMORY
    if container.terminated in NEVER_STARTED:
        return replace(_NODE_COULD_NOT if failed_to_start(container) else _START, said=said)
    how = f"with exit code {code}" if container.signal in {None, 0} else f"by signal {container.signal}"
    return Cause(Reason.SANDBOX_FAILED, f"its runner ended by itself, {how}", _ENDED, said=said)


def failed_to_start(container: ContainerView) -> bool:
    """Whether a container never ran because its node could not start it, as far as the runtime says why."""
    said = container.terminated_message.strip().lower()
    never = container.terminated in NEVER_STARTED
    return never and said != "" and not any(words in said for words in _TASK_TO_BLAME)


def may_have_begun(container: ContainerView) -> bool:
    """Whether a container that counts as never started may have run for a moment."""
    said = container.terminated_message.lower()
    return container.terminated in NEVER_STARTED and any(words in said for words in _TOO_LATE)


def of_disruption(pod: PodView) -> Cause | None:
    """Return why the cluster takes a pod away, as its DisruptionTarget condition says."""
    # A scheduler that changed its mind leaves the condition for a while; nothing has happened to the pod then.
    if pod.disruption is None or not pod.ended:
        return None
    cause = _DISRUPTIONS.get(pod.disruption)
    # The taint manager acts for dead nodes, too, and says the same. On those nobody ends the container, and the node
    # controller has set the pod to not ready (MarkPodsNotReady, pkg/controller/nodelifecycle).
    if cause is _TAINTED and pod.container.running and not pod.ready:
        return _NODE
    return cause


def of_status(pod: PodView) -> Cause | None:
    """Return why a pod ended, as its own status says; None where that only repeats how its container ended."""
    name = pod.reason
    # On a node that does not answer, the node controller sets NodeLost and leaves the phase (pkg/util/node).
    if name is None or (pod.phase != "Failed" and name != "NodeLost"):
        return None
    said = pod.message.strip().rstrip(".")
    if name == "Evicted" and _is_own_fault(pod.message):
        return replace(_DISK, said=said)
    if name == "Evicted":
        # Refused at the door, by a node under pressure, it is Evicted as well; no container has a status then.
        return replace(_PRESSURE, said=said)
    if name in _STATUS:
        return replace(_STATUS[name], said=said)
    if name.startswith("OutOf"):
        return replace(_NO_ROOM, said=said)
    return replace(_NOT_ADMITTED, said=f"{name}: {said}" if said else name)


def _is_own_fault(message: str) -> bool:
    return message.startswith(_OWN_FAULT) and any(part in message for part in _OWN_FAULT_PART)
