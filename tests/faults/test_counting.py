"""B13: the count itself can fail: each kind of wrong is found in records that have it."""

from typing import Any

import pytest

from faults.counting import PodRecord, count

_STARTED = {"type": "started", "execution": "main", "attempt": 1}
_RESULT = {"type": "result", "execution": "main", "reason": "Completed"}


def _pod(uid: str, *frames: dict[str, Any], attempt: int = 1, heard: bool = True) -> PodRecord:
    pod = PodRecord(uid, uid, {}, "", has_runner=True, ran=True, heard=heard, owner=("task/main", attempt))
    pod.frames = {number: {**frame, "attempt": attempt} for number, frame in enumerate(frames)}
    return pod


def _task(reason: str | None = "Completed", *, attempt: int = 1) -> dict[str, Any]:
    execution = {"name": "main", "tool": "once", "attempt": attempt, "reason": reason}
    status = {"reason": reason, "completionTime": reason and "now", "executions": [execution]}
    return {"metadata": {"uid": "task", "name": "task"}, "status": status}


@pytest.mark.parametrize(
    ("task", "pods", "wrong"),
    [
        (_task(), [_pod("p", _STARTED, _RESULT)], {}),
        (_task(), [_pod("p", _STARTED, _RESULT), _pod("q", _STARTED)], {"doubled": 1}),
        (_task(), [_pod("p", _STARTED, _STARTED, _RESULT)], {"doubled": 1}),
        (_task(attempt=2), [_pod("p", _STARTED), _pod("q", _STARTED, _RESULT, attempt=2)], {"doubled": 1}),
        (_task("SandboxFailed"), [_pod("p", _STARTED, _RESULT)], {"lost": 1}),
        (_task(), [], {"lost": 1}),
        (_task(None), [_pod("p", _STARTED)], {"without_status": 1}),
        (_task(), [_pod("p", _STARTED, _RESULT), _pod("q", heard=False)], {"unheard": 1}),
    ],
    ids=[
        "right",
        "two pods",
        "two starts",
        "may not repeat",
        "result lost",
        "phantom",
        "no status",
        "unread",
    ],
)
def test_B13_the_count_finds(task: dict[str, Any], pods: list[PodRecord], wrong: dict[str, int]) -> None:
    found = count([task], pods, repeatable=frozenset(), taken=frozenset(), only=frozenset({"task"})).to_json()
    names = ("lost", "doubled", "without_status", "unheard")
    assert {name: found[name] for name in names if found[name]} == wrong, found["problems"]


@pytest.mark.parametrize(("assigned", "counted"), [(False, ("idle", 1)), (True, ("unheard", 1))])
def test_B13_of_pods_that_nobody_read_only_those_without_a_task_are_surplus(
    *, assigned: bool, counted: tuple[str, int]
) -> None:
    gone = _pod("q", heard=False)
    gone.deleted, gone.assigned = True, assigned
    pods = [_pod("p", _STARTED, _RESULT), gone]
    found = count([_task()], pods, repeatable=frozenset(), taken=frozenset(), only=frozenset({"task"}))
    assert {name: n for name, n in found.to_json().items() if name in {"idle", "unheard"} and n} == dict(
        [counted]
    )
