"""Who waits for which pool, as long as they wait."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from corral_operator.control.queues import Queues
from corral_operator.decisions.queue import order
from corral_operator.decisions.task_view import TaskView
from corral_operator.metrics import QUEUE_DEPTH
from unit.operator.factories import NOW
from unit.operator.task_factories import TASK, task


def _task(
    uid: str, caller: str = "ann", *, age: float = 10, priority: int = 0, namespace: str = "team"
) -> TaskView:
    view = task({"tool": "once", "priority": priority}, age=age)
    return replace(view, key=replace(TASK, uid=uid, name=uid, namespace=namespace), caller=caller)


class _Queue:
    def __init__(self) -> None:
        self.kicked: list[str] = []
        self.queues = Queues(self.kicked.append)

    def wait(self, view: TaskView, *pools: str, execution: str = "main") -> None:
        self.queues.replace(view.key.uid, view, [(execution, pool) for pool in pools], NOW)


def test_B4_positions_follow_the_order_and_move_up_when_somebody_leaves() -> None:
    queue, old, new = _Queue(), _task("old", age=20), _task("new")
    queue.wait(new, "small")
    queue.wait(old, "small")
    assert (queue.queues.positions("old"), queue.queues.positions("new")) == ({"main": 1}, {"main": 2})
    queue.wait(old)
    assert (queue.queues.positions("old"), queue.queues.positions("new")) == ({}, {"main": 1})
    assert queue.queues.waits_for("team", "small")
    queue.wait(new)
    assert not queue.queues.waits_for("team", "small")


def test_B4_who_waits_on_keeps_the_place() -> None:
    queue = _Queue()
    first, second = _task("first", age=20), _task("second", age=20, caller="ben")
    for view in (first, second, first, second):
        queue.wait(view, "small")
    before = queue.queues.positions("first"), queue.queues.positions("second")
    queue.wait(first, "small")
    assert (queue.queues.positions("first"), queue.queues.positions("second")) == before


def test_B4_two_executions_of_a_task_wait_for_one_pool_each_in_its_place() -> None:
    queue, view = _Queue(), _task("chain")
    queue.queues.replace("chain", view, [("a", "small"), ("b", "small")], NOW)
    assert queue.queues.positions("chain") == {"a": 1, "b": 2}
    queue.queues.replace("chain", view, [("b", "small")], NOW)
    assert queue.queues.positions("chain") == {"b": 1}
    queue.queues.forget("chain")
    assert queue.queues.positions("chain") == {}


def test_B4_a_caller_that_was_served_lets_others_go_first() -> None:
    queue, ann, ben = _Queue(), _task("a", "ann", age=20), _task("b", "ben", age=5)
    queue.wait(ann, "small")
    queue.wait(ben, "small")
    assert queue.queues.positions("a") == {"main": 1}
    queue.queues.served("team", "ann", {}, NOW)
    assert queue.queues.positions("a") == {"main": 2}
    queue.queues.served("other", "ben", {}, NOW)
    assert queue.queues.positions("b") == {"main": 1}, "what happens in another namespace does not count"


def test_M4_how_many_go_before_a_task_whether_or_not_it_waits() -> None:
    queue = _Queue()
    for number in range(3):
        queue.wait(_task(f"t{number}", f"c{number}", age=20 - number), "small")
    assert [queue.queues.ahead_of(_task(f"t{number}"), "small") for number in range(3)] == [0, 1, 2]
    assert queue.queues.ahead_of(_task("fresh"), "small") == 3
    assert queue.queues.ahead_of(_task("urgent", priority=5), "small") == 3, "it joins before it goes first"
    assert queue.queues.ahead_of(_task("fresh"), "large") == 0
    assert queue.queues.ahead_of(_task("t0", namespace="other"), "small") == 0


def test_M4_as_many_are_looked_at_as_there_are_sandboxes() -> None:
    queue = _Queue()
    for number in range(3):
        queue.wait(_task(f"t{number}", f"c{number}", age=20 - number), "small")
    queue.queues.kick_first("team", "small", 2)
    assert queue.kicked == ["t0", "t1"]


def test_M4_when_a_pool_goes_those_who_waited_for_it_look_again() -> None:
    queue = _Queue()
    queue.wait(_task("a"), "small")
    queue.wait(_task("b"), "large")
    queue.queues.pool_gone("team", "small")
    assert queue.kicked == ["a"]
    assert (queue.queues.positions("a"), queue.queues.positions("b")) == ({}, {"main": 1})


def test_M4_a_task_may_wait_for_several_pools() -> None:
    queue, view = _Queue(), _task("a")
    queue.queues.replace("a", view, [("x", "small"), ("y", "large")], NOW)
    assert queue.queues.positions("a") == {"x": 1, "y": 1}
    queue.queues.replace("a", view, [("y", "large")], NOW)
    assert queue.queues.positions("a") == {"y": 1}


def test_M4_a_task_that_is_gone_holds_no_place() -> None:
    queue = _Queue()
    queue.wait(_task("gone", age=20), "small")
    queue.wait(_task("there"), "small")
    queue.queues.forget("gone")
    queue.queues.forget("never there")
    assert queue.queues.positions("there") == {"main": 1}
    assert queue.queues.ahead_of(_task("there"), "small") == 0


def test_B10_the_longest_wait_is_known() -> None:
    queue = _Queue()
    assert queue.queues.oldest() is None
    queue.wait(_task("a", age=5), "small")
    queue.wait(_task("b", age=50), "large")
    assert queue.queues.oldest() == NOW - timedelta(seconds=50)
    queue.queues.clear()
    assert queue.queues.oldest() is None
    assert not queue.queues.waits_for("team", "small")


def test_M4_what_is_asked_of_one_namespace_costs_nothing_for_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    queue, ordered = _Queue(), 0
    for number in range(20):
        queue.wait(_task(f"t{number}", namespace=f"n{number}"), "small")

    def count(*arguments: Any) -> Any:
        nonlocal ordered
        ordered += 1
        return order(*arguments)

    monkeypatch.setattr("corral_operator.control.queues.order", count)
    assert queue.queues.positions("t3") == {"main": 1}
    assert queue.queues.positions("nobody") == {}
    assert ordered == 1
    queue.queues.served("n4", "ann", {}, NOW)
    queue.queues.forget("t5")
    queue.queues.positions("t3")
    assert ordered == 1, "what happened elsewhere does not count"


def test_M4_the_depth_is_that_of_all_queues() -> None:
    queue, view = _Queue(), _task("a")
    queue.queues.replace("a", view, [("x", "small"), ("y", "large"), ("z", "large")], NOW)
    queue.wait(_task("b"), "small")
    assert QUEUE_DEPTH._value.get() == 4
    queue.queues.pool_gone("team", "large")
    assert QUEUE_DEPTH._value.get() == 2
    assert queue.queues.positions("a") == {"x": 1}
    queue.queues.forget("a")
    queue.queues.forget("a")
    assert QUEUE_DEPTH._value.get() == 1
    queue.queues.clear()
    assert (QUEUE_DEPTH._value.get(), queue.queues.positions("b")) == (0, {})
