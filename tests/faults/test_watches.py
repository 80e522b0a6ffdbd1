"""B13: whatever a watch does, every task ends once and starts once; the sweep finds what the watch did not tell."""

from typing import Any

import pytest

from faults import workload
from faults.scene import Scene

_FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "drops a third of the events": ({"drop": 0.34}, "dropped event"),
    "lags by two seconds": ({"lag_seconds": 2.0}, "lagging event"),
    "reorders events of different objects": ({"reorder": 0.5}, "reordered event"),
    "ends with 410": ({"gone": 0.2}, "410 event"),
    "breaks": ({"cut": 0.2}, "cut watch"),
    "does everything at once": (
        {"drop": 0.1, "lag_seconds": 0.5, "reorder": 0.2, "gone": 0.05, "cut": 0.05},
        "dropped event",
    ),
    "freezes without closing": ({"frozen": True}, "frozen event"),
}


@pytest.mark.timeout(180)
@pytest.mark.parametrize("how", _FAULTS)
def test_B13_a_watch_that(stage: Scene, how: str) -> None:
    faults, made = _FAULTS[how]
    stage.faults(seed=7, **faults)
    stage.submit(workload.batch("w" + str(list(_FAULTS).index(how)), warm=2, own=1, programs=0))
    stage.finish()
    stage.check(f"a watch that {how}")
    assert stage.harness.call("made")[made], "the fault never struck"


def test_B13_watches_are_refused_with_410(stage: Scene) -> None:
    stage.faults({"kind": "answer", "verbs": ["watch"], "status": 410, "times": 6}, cut=1.0)
    stage.submit(workload.batch("refused", warm=2, own=1, programs=0))
    stage.finish()
    stage.check("watches refused with 410")
