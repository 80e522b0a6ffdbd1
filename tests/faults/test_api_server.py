"""B13: an API server that is slow, refuses, loses its answers, or is away: tools go on and their results arrive."""

import os
from typing import Any

import pytest

from faults import workload
from faults.scene import Scene

_WRITES = {"verbs": ["create", "patch", "update", "delete"], "chance": 0.3}
_FAULTS: dict[str, dict[str, Any]] = {
    "answers 409": {"kind": "answer", "status": 409, **_WRITES},
    "answers 429 and when to come again": {"kind": "answer", "status": 429, "seconds": 1, **_WRITES},
    "answers 500": {"kind": "answer", "status": 500, **_WRITES},
    "answers 503": {"kind": "answer", "status": 503, **_WRITES},
    "answers 500 after it wrote": {"kind": "answer", "status": 500, "stage": "unanswered", **_WRITES},
    "answers 409 after it wrote": {"kind": "answer", "status": 409, "stage": "unanswered", **_WRITES},
    "loses the answer after it wrote": {"kind": "cut", "stage": "unanswered", **_WRITES},
    "breaks connections": {"kind": "cut", "chance": 0.2},
    "writes slowly": {"kind": "delay", "seconds": 2.0, **_WRITES},
}
_OUTAGES = (30, 300) if os.environ.get("CORRAL_FAULTS_LONG") == "1" else (30,)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("how", _FAULTS)
def test_B13_an_api_server_that(stage: Scene, how: str) -> None:
    stage.faults(_FAULTS[how], seed=11)
    stage.submit(workload.batch("a" + str(list(_FAULTS).index(how)), warm=2, own=1, programs=0))
    stage.finish()
    stage.check(f"an API server that {how}")
    assert stage.harness.call("made"), "the fault never struck"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seconds", _OUTAGES)
def test_B13_api_server_away_while_tools_run(stage: Scene, seconds: int) -> None:
    tasks = [
        *(workload.call(f"away{seconds}-warm-{n}", seconds="4") for n in range(3)),
        *(workload.cold(f"away{seconds}-cold-{n}", seconds="4") for n in range(2)),
    ]
    stage.submit(tasks)
    stage.until(lambda: len(stage.running()) == len(tasks))
    stage.harness.call("outage", seconds=seconds)
    # Their runners say that they ended while nobody could write it down.
    mine = {task["metadata"]["name"] for task in tasks}
    stage.until(lambda: not stage.running())
    assert all(not status.get("reason") for name, status in stage.statuses().items() if name in mine)
    later = [workload.call(f"away{seconds}-later-{n}") for n in range(2)]
    stage.submit(later)
    stage.finish(seconds=seconds + 60)
    stage.check(f"API server away for {seconds} s")
