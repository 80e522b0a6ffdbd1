"""B3, B4: one caller floods, and another does not notice."""

from pathlib import Path
from typing import Any

import httpx

from corral.api import AgentTask
from corral_gateway.tasks.fair_queue import FairQueue
from corral_gateway.tasks.observing import Observers
from corral_gateway.tasks.places import Ticket
from integration.gateway.running import CALCULATE, SLEEP, Gateway, gateway_in, problem

#: Of one place, with room for twenty who wait, five of each caller.
SMALL: dict[str, Any] = {"CORRAL_CONCURRENT_TASKS": 1, "CORRAL_WAITING_TASKS": 20}


class Ends:
    """Notes whose tasks ended, in that order; with one place it is the order in which they began."""

    def __init__(self, gateway: Gateway) -> None:
        self.callers: list[str] = []
        gateway.executor._observers = Observers([gateway.executor._observers, self])

    def ended(self, _task: AgentTask, caller: str, _seconds: float) -> None:
        self.callers.append(caller)


async def flood(client: httpx.AsyncClient, times: int) -> list[httpx.Response]:
    return [await client.post("/v1/tasks", json=CALCULATE) for _ in range(times)]


async def finish(client: httpx.AsyncClient, answers: list[httpx.Response]) -> None:
    for answer in answers:
        if answer.status_code == 202:
            ended = await client.get(answer.headers["location"], params={"wait": "60s"})
            assert ended.json()["status"]["reason"] == "Completed"


async def test_B4_one_caller_floods_and_anothers_tasks_begin_next(tmp_path: Path) -> None:
    async with gateway_in(tmp_path, **SMALL) as gateway:
        ends = Ends(gateway)
        flooder, other = await gateway.caller("flooder"), await gateway.caller("other")
        async with flooder, other:
            holding = (await flooder.post("/v1/tasks", json=SLEEP)).headers["location"]
            flooded = await flood(flooder, 50)  # ten times what may wait of theirs
            assert [answer.status_code for answer in flooded] == [202] * 5 + [503] * 45
            status, reason = problem(flooded[-1])
            assert (status, reason) == (503, "NoCapacity")
            assert "as many of your tasks wait as may" in flooded[-1].json()["detail"]
            assert int(flooded[-1].headers["retry-after"]) > 0
            wanted = await flood(other, 3)
            assert "corral_gateway_tasks_waiting 8.0" in gateway.metrics_text
            await flooder.delete(holding)
            await finish(other, wanted)
            await finish(flooder, flooded)
        assert ends.callers == ["flooder", *["flooder", "other"] * 3, "flooder", "flooder"]


async def test_B4_without_fairness_the_flood_goes_first(tmp_path: Path) -> None:
    """The counter-proof: one line for all, as if everybody were one caller."""

    class OneLine(FairQueue[Ticket]):
        def join(self, _caller: str, item: Ticket, priority: int = 0, *, promised: bool = False) -> None:
            super().join("all", item, priority, promised=promised)

        def leave(self, _caller: str) -> None:
            super().leave("all")

        def give_up(self, _caller: str, item: Ticket) -> bool:
            return super().give_up("all", item)

    async with gateway_in(tmp_path, **SMALL) as gateway:
        gateway.executor.places._queue = OneLine(1, 20, 20)
        ends = Ends(gateway)
        flooder, other = await gateway.caller("flooder"), await gateway.caller("other")
        async with flooder, other:
            holding = (await flooder.post("/v1/tasks", json=SLEEP)).headers["location"]
            flooded = await flood(flooder, 50)
            assert [answer.status_code for answer in flooded] == [202] * 20 + [503] * 30
            assert (await flood(other, 1))[0].status_code == 503
            await flooder.delete(holding)
            await finish(flooder, flooded)
        assert "other" not in ends.callers


async def test_B4_a_priority_orders_the_callers_own_tasks(tmp_path: Path) -> None:
    async with gateway_in(tmp_path, **SMALL) as gateway, await gateway.caller() as client:
        holding = (await client.post("/v1/tasks", json=SLEEP)).headers["location"]
        order: list[int] = []

        class Priorities:
            def ended(self, task: AgentTask, _caller: str, _seconds: float) -> None:
                order.append(task.spec.priority)

        gateway.executor._observers = Observers([gateway.executor._observers, Priorities()])
        answers = [
            await client.post("/v1/tasks", json={**CALCULATE, "priority": priority})
            for priority in (-5, 0, 7)
        ]
        await client.delete(holding)
        await finish(client, answers)
        assert order == [0, 7, 0, -5]  # the first one held the place


async def test_B3_a_task_that_waits_is_cancelled_without_a_place(tmp_path: Path) -> None:
    async with gateway_in(tmp_path, **SMALL) as gateway, await gateway.caller() as client:
        holding = (await client.post("/v1/tasks", json=SLEEP)).headers["location"]
        waiting = (await client.post("/v1/tasks", json=CALCULATE)).headers["location"]
        await client.delete(waiting)
        ended = await client.get(waiting, params={"wait": "60s"})
        assert ended.json()["status"]["reason"] == "Cancelled"
        assert gateway.executor.places.waiting == 0
        assert (await client.get(holding)).json()["status"]["phase"] in {"Pending", "Running"}
