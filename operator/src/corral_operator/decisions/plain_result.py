"""How a program ended that runs as its container's own, in an image without the runner."""

from dataclasses import dataclass

from corral.api import Reason
from corral_operator.decisions.pod_causes import NEVER_STARTED, failed_to_start
from corral_operator.decisions.pod_failure import cluster_failure
from corral_operator.views import ContainerView, PodView

#: A container runtime tells an end by a signal as the shell does: 128 and the signal's number.
_SIGNALS = range(129, 193)
_LOST = {("ContainerStatusUnknown", 137), ("Unknown", 255)}


@dataclass(frozen=True, slots=True)
class PlainResult:
    """How it ended."""

    reason: Reason
    message: str
    exit_code: int | None = None
    signal: int | None = None


def plain_result(pod: PodView) -> PlainResult | None:
    """Return how the program ended by itself or by a limit of its own.

    None: it has not, or the cluster ended it, which ``pod_failure`` tells.
    """
    failure = cluster_failure(pod)
    if failure is not None:
        own = failure.reason in {Reason.DEADLINE_EXCEEDED, Reason.DISK_LIMIT}
        return PlainResult(failure.reason, failure.message) if own else None
    container = pod.container
    if container.terminated is None or (container.terminated, container.exit_code) in _LOST:
        return None
    # A container of a pod that is being deleted was killed with it, whatever its exit code says.
    if pod.deleting and container.terminated != "OOMKilled":
        return None
    if failed_to_start(container):
        return None
    return _own_end(container)


def _own_end(container: ContainerView) -> PlainResult:
    code = container.exit_code
    if container.terminated == "OOMKilled":
        message = "the program needed more memory than limits.memory, and the kernel killed it"
        return PlainResult(Reason.OUT_OF_MEMORY, message, signal=9)
    if container.terminated in NEVER_STARTED:
        said = container.terminated_message.strip()
        message = f"the program could not be started: {said or 'the container runtime does not say why'}"
        return PlainResult(Reason.TOOL_ERROR, message, exit_code=code)
    if code == 0:
        return PlainResult(Reason.COMPLETED, "the program ended well", exit_code=0)
    signal = container.signal or (code - 128 if code is not None and code in _SIGNALS else None)
    if signal:
        return PlainResult(Reason.TOOL_ERROR, f"the program was ended by signal {signal}", signal=signal)
    return PlainResult(Reason.TOOL_ERROR, f"the program ended with exit code {code}", exit_code=code)
