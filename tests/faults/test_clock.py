"""B13: the wall clock of the operator steps, a day forth and two back: no deadline moves, nothing ends early.

Stepped is the clock as the operator's own module reads it; a container may not set the node's. The clocks of the
nodes and of the API server are not stepped: all of them share this machine's.
"""

import pytest

from faults import workload
from faults.scene import Scene

_DAY = 86400.0


@pytest.mark.timeout(180)
def test_B13_deadlines_are_monotonic(stage: Scene) -> None:
    ends: workload.Json = {"activeDeadlineSeconds": 120, "ttlSecondsAfterFinished": 3600}
    stage.submit([workload.call(f"clock-{n}", seconds="4", **ends) for n in range(3)])
    stage.until(lambda: len(stage.running()) == 3)
    stage.harness.call("step_clock", name="a", seconds=_DAY)
    stage.submit([workload.cold(f"clock-late-{n}", seconds="1", **ends) for n in range(2)])
    stage.until(stage.running)
    stage.harness.call("step_clock", name="a", seconds=-2 * _DAY)
    stage.finish()
    stage.check("wall clock stepped by a day, then back by two")
    assert stage.present()["agenttasks"] >= 5, "a task was taken away before its time"
