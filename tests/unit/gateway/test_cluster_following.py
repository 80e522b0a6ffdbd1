"""B8, B13: a reader is told everything once, however often the runner's connection breaks, and whoever ends first."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING, Any, cast

import pytest

from corral.api import AgentTask, ExecutionResult, Frame, Output, Reason, Result, Started
from corral.sandbox.errors import SandboxLostError
from corral_gateway.tasks.cluster import following as followings
from corral_gateway.tasks.cluster.following import Following
from corral_gateway.tasks.cluster.memory import TaskMemory
from corral_gateway.tasks.cluster.reading import task_of
from corral_gateway.tasks.cluster.runners import Attempt, Runners
from corral_gateway.tasks.cluster.waiting import Waiting
from corral_gateway.tasks.events import Event
from eventually import eventually_async

if TYPE_CHECKING:
    from corral.cluster.port import Json

UID = "5f4b9d0e-0000-4000-8000-000000000001"


def _said(*texts: str) -> list[Frame]:
    return [Started(1, 0.0, 1, 1), *(Output(2, 0.0, "stdout", text) for text in texts)]


class _Runners:
    """Runners of attempts, by execution and attempt, whose connections break after so many frames."""

    def __init__(self, said: dict[tuple[str, int], Sequence[Frame]], breaks: Sequence[int] = ()) -> None:
        self.said = said
        self.breaks = list(breaks)
        self.open = 0

    async def frames(self, attempt: Attempt) -> AsyncGenerator[Frame]:
        if (attempt.execution, attempt.attempt) not in self.said:
            raise SandboxLostError("nobody listens")
        most = self.breaks.pop(0) if self.breaks else None
        self.open += 1
        try:
            for frame in self.said[attempt.execution, attempt.attempt][:most]:
                yield frame
            if most is not None:
                raise SandboxLostError("the connection broke")
            await asyncio.Event().wait()
        finally:
            self.open -= 1


class _Task:
    """A task whose status changes as the operator writes it."""

    def __init__(self, *steps: str, strategy: str = "Sequential") -> None:
        self.memory = TaskMemory(lambda _body, _before: None, Waiting(100, 100))
        self._version = 0
        names = [{"name": name, "tool": "shell"} for name in steps]
        self._spec = {"steps": names, "strategy": strategy} if steps else {"tool": "shell"}
        self.executions: dict[str, Json] = {}
        self.write()

    def write(self, **status: Any) -> None:
        self._version += 1
        metadata = {
            "name": "t",
            "namespace": "team",
            "uid": UID,
            "resourceVersion": str(self._version),
            "creationTimestamp": "2026-01-01T00:00:00Z",
        }
        told = {"executions": list(self.executions.values()), **status}
        self.memory.put({"metadata": metadata, "spec": self._spec, "status": told})

    def begins(self, name: str = "main", attempt: int = 1) -> None:
        sandbox = {"podName": f"pod-{name}-{attempt}"}
        self.executions[name] = {"name": name, "tool": "shell", "attempt": attempt, "sandbox": sandbox}
        self.write()

    def ends(self, stdout: str, name: str = "main") -> None:
        self.executions[name] |= {
            "reason": "Completed",
            "output": {"stdout": stdout, "stderr": "", "truncated": False},
            "timings": {"started": "2026-01-01T00:00:00Z"},
        }
        self.write()

    def is_over(self) -> None:
        self.write(phase="Succeeded", reason="Completed")

    async def read(self, uid: str) -> AgentTask | None:
        body = self.memory.bodies.get(uid)
        return None if body is None else task_of(body)

    def follow(self, runners: _Runners, told: list[Event], after: int = 0) -> "asyncio.Task[None]":
        following = Following(
            UID, after, memory=self.memory, runners=cast("Runners", runners), read=self.read
        )

        async def follow() -> None:
            async for event in following.events():
                told.append(event)  # noqa: PERF401 - who looks meanwhile sees what has come

        return asyncio.get_running_loop().create_task(follow())


def _shown(events: Sequence[Event]) -> list[str]:
    return [
        event.data.get("text") or f"{event.kind} {event.data.get('execution', '')}".strip()
        for event in events
    ]


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(followings, "_FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(followings, "_LONGEST_PAUSE_SECONDS", 0.005)
    monkeypatch.setattr(followings, "_LAST_FRAMES_SECONDS", 0.01)


@pytest.mark.parametrize("breaks", [(), (0, 0), (1, 2, 3), (2, 2, 2), (4, 1, 0)])
async def test_B13_broken_connections_neither_repeat_nor_lose_anything(breaks: Sequence[int]) -> None:
    task, told = _Task(), list[Event]()
    runners = _Runners({("main", 1): _said("a", "b", "c")}, breaks)
    reader = task.follow(runners, told)
    task.begins()
    await eventually_async(lambda: _shown(told) == ["started main", "a", "b", "c"])
    task.ends("abc and the end")
    task.is_over()
    await reader
    assert _shown(told) == ["started main", "a", "b", "c", " and the end", "ended main", "finished"]
    assert [event.seq for event in told] == sorted({event.seq for event in told})
    assert runners.open == 0


async def test_B8_a_runner_that_nobody_reaches_costs_liveness_and_nothing_else() -> None:
    task, told = _Task(), list[Event]()
    reader = task.follow(_Runners({}), told)
    task.begins()
    task.ends("all")
    task.is_over()
    await reader
    assert _shown(told) == ["started main", "all", "ended main", "finished"]


async def test_B8_the_runners_last_frame_waits_for_the_status_that_says_the_same() -> None:
    task, told = _Task(), list[Event]()
    last = Result(9, 0.0, ExecutionResult(Reason.COMPLETED), "main")
    reader = task.follow(_Runners({("main", 1): [*_said("a"), last]}), told)
    task.begins()
    await eventually_async(lambda: _shown(told) == ["started main", "a"])
    task.ends("a")
    await eventually_async(lambda: _shown(told)[-1] == "ended main")
    assert not reader.done()
    task.is_over()
    await reader


async def test_B13_another_attempt_is_told_after_what_was_told_of_the_first() -> None:
    task, told = _Task(), list[Event]()
    runners = _Runners({("main", 1): _said("first"), ("main", 2): _said("second")})
    reader = task.follow(runners, told)
    task.begins()
    await eventually_async(lambda: _shown(told) == ["started main", "first"])
    task.begins(attempt=2)
    await eventually_async(lambda: _shown(told)[2:] == ["started main", "second"])
    task.ends("second")
    task.is_over()
    await reader
    assert _shown(told)[4:] == ["ended main", "finished"]
    assert [event.seq for event in told] == sorted({event.seq for event in told})


@pytest.mark.parametrize("strategy", ["Sequential", "Parallel"])
async def test_B8_steps_are_told_in_the_specs_order_and_resumed_anywhere(strategy: str) -> None:
    task, told = _Task("one", "two", strategy=strategy), list[Event]()
    runners = _Runners({("one", 1): _said("a"), ("two", 1): _said("b")})
    reader = task.follow(runners, told)
    if strategy == "Parallel":
        task.begins("two")
    task.begins("one")
    await eventually_async(lambda: _shown(told) == ["started one", "a"])
    task.ends("a", "one")
    if strategy == "Sequential":
        task.begins("two")
    await eventually_async(lambda: _shown(told) == ["started one", "a", "ended one", "started two", "b"])
    task.ends("b", "two")
    task.is_over()
    await reader
    for place, event in enumerate(told):
        again: list[Event] = []
        await task.follow(_Runners({}), again, event.seq)
        assert again == told[place + 1 :]


async def test_B8_steps_that_never_ran_are_passed() -> None:
    task, told = _Task("one", "two", "three"), list[Event]()
    reader = task.follow(_Runners({}), told)
    task.begins("two")
    task.ends("b", "two")
    await eventually_async(lambda: _shown(told) == ["started two", "b", "ended two"])
    task.is_over()
    await reader
    assert _shown(told)[3:] == ["finished"]


async def test_B13_a_reader_who_hangs_up_leaves_no_connection() -> None:
    task, told = _Task(), list[Event]()
    runners = _Runners({("main", 1): _said("a")})
    reader = task.follow(runners, told)
    task.begins()
    await eventually_async(lambda: _shown(told) == ["started main", "a"])
    reader.cancel()
    await asyncio.gather(reader, return_exceptions=True)
    await eventually_async(lambda: runners.open == 0)
