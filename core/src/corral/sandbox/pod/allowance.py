"""How much a runner may send. What came from a sandbox is read by the process that serves everybody.

The amounts follow from what the runner of docs/runner-protocol.md sends at most; one that sends more is none.
"""

from dataclasses import dataclass

from corral.api import MAXIMUM_LIMITS, ResolvedLimits
from corral.sandbox.port import ExecutionRequest

#: For every connection: a proof, whose the sandbox is, and a refusal of a thousand characters.
_GREETING_BYTES = 16 * 1024
#: Beside output and files: the result, which is a line; ten thousand reports of progress, as many as a tool makes in
#: a day; the frames, of some 150 bytes beside their text, of a tool that prints single characters while the runner
#: does not yet gather them (10,000 of both streams); and the names of a thousand files.
_ALWAYS_BYTES = 16 << 20
#: Later it gathers them: four frames a second of each stream, of up to 256 bytes beside their text.
_BYTES_PER_SECOND = 2 * 4 * 256
#: A control character is six characters of JSON, and each 4 KiB of output may be a frame.
_BYTES_PER_OUTPUT_BYTE = 7
#: Base64, and a frame with the path every 64 KiB.
_BYTES_PER_FILE_BYTE = 2


def most_bytes(request: ExecutionRequest | None) -> int:
    """Return how many bytes of frames an execution may bring.

    Args:
        request: the execution; None for one that was started before, with limits that are not known any more.
    """
    limits = ResolvedLimits.of(MAXIMUM_LIMITS) if request is None else request.limits
    files = 0 if request is None else request.outputs_limit_bytes  # little beside the largest output
    return (
        _ALWAYS_BYTES
        + _BYTES_PER_OUTPUT_BYTE * limits.output_bytes
        + _BYTES_PER_FILE_BYTE * files
        + int(_BYTES_PER_SECOND * limits.wall_seconds)
    )


@dataclass(slots=True)
class Allowance:
    """What one runner may still send, over all connections to it: it cannot gain more by hanging up."""

    left_bytes: int = 0

    def greet(self) -> None:
        """Allow a connection to begin."""
        self.left_bytes = max(self.left_bytes, _GREETING_BYTES)

    def take(self, count: int) -> bool:
        """Count what has come; False if it is too much."""
        self.left_bytes -= count
        return self.left_bytes >= 0
