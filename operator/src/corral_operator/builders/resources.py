"""What a sandbox's container may use, as Kubernetes writes it."""

from typing import Any

from corral.api import format_bytes, format_cpu
from corral_operator.decisions.sizes import SandboxSize
from corral_operator.settings import Settings
from corral_operator.views import PodView

#: Up to here the scratch space is memory: its size is a wall that the kernel holds, at once and to the byte. A disk's
#: is only looked at every ten seconds (``housekeepingInterval`` and the eviction manager's loop, pkg/kubelet/eviction),
#: and going over it costs the pod. Above it memory would be too dear.
MEMORY_BACKED_BYTES = 1 << 30
#: The runner, its interpreter and its buffers of frames. Measured: 14 MiB while it waits, and what it keeps of the
#: output is bounded. Added, so that a tool gets all of ``limits.memory``.
RUNNER_OVERHEAD_BYTES = 32 << 20
#: The container's log, which counts as ephemeral storage: a kubelet keeps 5 files of 10 MiB
#: (``containerLogMaxFiles``, ``containerLogMaxSize``). Without a limit, printing would fill the node.
LOG_BYTES = 64 << 20


def memory_backed(size: SandboxSize) -> bool:
    """Whether the scratch space of a sandbox is memory."""
    return size.disk_bytes <= MEMORY_BACKED_BYTES


def container_memory_bytes(size: SandboxSize, *, runner: bool = True) -> int:
    """Return the memory limit of the container: pages of a tmpfs are charged to whoever writes them."""
    disk_bytes = size.disk_bytes if memory_backed(size) else 0
    return size.memory_bytes + disk_bytes + (RUNNER_OVERHEAD_BYTES if runner else 0)


def sandbox_size(pod: PodView) -> SandboxSize | None:
    """Return how large a running sandbox is: ``container_resources`` read backwards. None while that is not known."""
    if pod.cpu is None or pod.memory_bytes is None or pod.disk_bytes is None:
        return None
    bare = SandboxSize(pod.cpu, 0, pod.disk_bytes)
    return SandboxSize(pod.cpu, pod.memory_bytes - container_memory_bytes(bare), pod.disk_bytes)


def container_resources(size: SandboxSize, settings: Settings, *, runner: bool = True) -> dict[str, Any]:
    """Return ``resources`` of the container.

    Whole, ephemeral storage included: the resize subresource takes the object as it is given and refuses it if
    anything but CPU and memory is another (``ValidatePodResize``, pkg/apis/core/validation).
    """
    memory_bytes = container_memory_bytes(size, runner=runner)
    disk_bytes = 0 if memory_backed(size) else size.disk_bytes
    return {
        "limits": {
            "cpu": format_cpu(size.cpu),
            "memory": format_bytes(memory_bytes),
            "ephemeral-storage": format_bytes(disk_bytes + LOG_BYTES),
        },
        "requests": {
            "cpu": format_cpu(size.cpu * settings.cpu_request_fraction),
            "memory": format_bytes(int(memory_bytes * settings.memory_request_fraction)),
            # Reserved whole: a node that runs out of disk evicts neighbours, it cannot slow anybody down. Left out it
            # would become the limit, and a thousand waiting sandboxes would reserve 64 GB for logs they never write.
            "ephemeral-storage": format_bytes(disk_bytes),
        },
    }
