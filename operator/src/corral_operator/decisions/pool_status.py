"""What a pool's status says."""

from dataclasses import dataclass
from datetime import datetime

from corral.api import SandboxPoolStatus
from corral_operator.decisions.status import condition
from corral_operator.names import POOL_LABEL, label_value

READY = "Ready"
# Reasons of the condition. Where sandboxes do not come up, the reason is why, one of ``corral.api.Reason``:
# ImagePullFailed, Unschedulable, QuotaExceeded, AdmissionRefused, InvalidSpec, SandboxFailed …
#: As many are ready as are asked for.
ALL_READY = "AllReady"
#: None is asked for.
SCALED_TO_ZERO = "ScaledToZero"
#: Some are ready, the others are coming.
REFILLING = "Refilling"
#: None is ready; some are coming.
EMPTY = "Empty"


@dataclass(frozen=True, slots=True)
class Counts:
    """How many sandboxes of a pool there are."""

    asked: int
    ready: int
    starting: int
    claimed: int


def pool_status(
    counts: Counts,
    *,
    pool_name: str,
    generation: int,
    before: SandboxPoolStatus | None,
    trouble: tuple[str, str] | None,
    now: datetime,
) -> SandboxPoolStatus:
    """Return the status.

    Args:
        counts: of its sandboxes.
        pool_name: name of the pool.
        generation: of the spec that was looked at.
        before: the status as it stands.
        trouble: why sandboxes do not come up: a reason, and words for people.
        now: the time.
    """
    holds, reason, message = _ready(counts, trouble)
    ready = condition(
        before.conditions if before is not None else (),
        READY,
        holds=holds,
        reason=reason,
        message=message,
        now=now,
        generation=generation,
    )
    return SandboxPoolStatus.model_construct(
        replicas=counts.ready + counts.starting,
        ready=counts.ready,
        claimed=counts.claimed,
        selector=f"{POOL_LABEL}={label_value(pool_name)}",
        observed_generation=generation,
        conditions=(ready,),
    )


def _ready(counts: Counts, trouble: tuple[str, str] | None) -> tuple[bool, str, str]:
    if counts.asked == 0:
        return True, SCALED_TO_ZERO, "replicas is 0, so no sandbox waits"
    if counts.ready >= counts.asked:
        return True, ALL_READY, f"all {counts.asked} sandboxes are ready"
    has = f"{counts.ready} of {counts.asked} sandboxes are ready"
    if trouble is not None:
        return False, trouble[0], f"{has}; {trouble[1]}"
    return False, REFILLING if counts.ready else EMPTY, f"{has}, {counts.starting} are starting"
