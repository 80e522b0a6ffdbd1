"""Pools as the operator keeps them, with runners on TCP: what is ready, what has served, and who waits."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from corral.api import SandboxPool, time_text
from corral.cluster.port import AGENT_TASKS, PODS, POOLS, ObjectKey
from corral_operator.control.claims import Claims
from corral_operator.control.podmaker import PodMaker
from corral_operator.settings import Settings
from eventually import eventually_async
from unit.operator.api_server import ApiServer, Json
from unit.operator.factories import POOL, RUNNING, raw_pod
from unit.operator.replica import KEY, Replica, running
from unit.operator.runners import ScriptedRunner
from unit.operator.task_factories import pool_body, task, task_body

CALCULATE = {"tool": "calculator", "arguments": {"expression": "1"}}


def _warm(server: ApiServer) -> Json:
    """Put a pool of one, and its sandbox, as they stand when an operator comes."""
    maker = PodMaker(Settings(), KEY)
    body = maker.waiting(POOL, SandboxPool.model_validate(server.put(POOLS, pool_body())).spec)
    seen = raw_pod(body["metadata"]["name"], state=RUNNING, ready=True, podIP="127.0.0.1")
    body["metadata"] = {**seen["metadata"], **body["metadata"]}
    return server.put(PODS, {**body, "status": seen["status"]})


@asynccontextmanager
async def _runner_of(pod: Json, owner: str | None, attempt: int = 1) -> AsyncIterator[ScriptedRunner]:
    """Let a pod's runner listen, which has served somebody."""
    async with ScriptedRunner.started() as runner:
        metadata = pod["metadata"]
        runner.token = PodMaker(Settings(), KEY).tokens(metadata["namespace"], metadata["name"]).start
        runner.owner = None if owner is None else {"uid": owner, "attempt": attempt}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("corral_operator.control.links.RUNNER_PORT", runner.port)
            yield runner


def _pods(server: ApiServer) -> set[str]:
    return {name for plural, _, name in server.objects if plural == "pods"}


def _key_of(pod: Json) -> ObjectKey:
    return ObjectKey("team", pod["metadata"]["name"], pod["metadata"]["uid"])


def _is_unused(replica: Replica, key: ObjectKey) -> bool:
    link = replica.operator._links.find(key)
    return link is not None and link.unused


def _put_task_that_waits(server: ApiServer, *, attempt: int) -> None:
    """Put a task whose attempt is yet to begin, in an hour."""
    later = {"queued": time_text(datetime.now(UTC) + timedelta(hours=1))}
    main = {"name": "main", "tool": "calculator", "phase": "Pending", "attempt": attempt, "timings": later}
    status = {"executions": [main], "startTime": "2026-01-01T12:00:00Z", "phase": "Running"}
    server.put(AGENT_TASKS, task_body(CALCULATE, status))


def _ended(pod: Json) -> Json:
    sandbox = {"podName": pod["metadata"]["name"], "podUID": pod["metadata"]["uid"], "warm": True}
    return {
        "name": "a",
        "tool": "calculator",
        "phase": "Succeeded",
        "reason": "Completed",
        "sandbox": sandbox,
    }


async def test_B13_a_chain_goes_on_when_its_operator_died_before_it_took_a_used_sandbox_away() -> None:
    server = ApiServer()
    pod = _warm(server)
    steps = [{"name": "a", **CALCULATE}, {"name": "b", **CALCULATE}]
    status = {"executions": [_ended(pod)], "startTime": "2026-01-01T12:00:00Z", "phase": "Running"}
    server.put(AGENT_TASKS, task_body({"steps": steps, "strategy": "Sequential"}, status))
    used = {pod["metadata"]["name"]}
    async with _runner_of(pod, "task-uid/a"), running(server):
        await eventually_async(lambda: _pods(server), lambda pods: len(pods) == 1 and pods != used)


async def test_B13_a_sandbox_of_an_attempt_that_was_retried_since_is_given_to_nobody() -> None:
    server = ApiServer()
    pod = _warm(server)
    _put_task_that_waits(server, attempt=2)
    used = {pod["metadata"]["name"]}
    async with _runner_of(pod, "task-uid/main"), running(server):
        await eventually_async(lambda: _pods(server), lambda pods: len(pods) == 1 and pods != used)


async def test_B13_a_sandbox_that_another_operator_started_in_stays_though_no_watch_has_told_of_it_yet() -> (
    None
):
    server = ApiServer()
    pod = _warm(server)
    _put_task_that_waits(server, attempt=1)
    key = _key_of(pod)

    def is_described(replica: Replica) -> bool:
        link = replica.operator._links.find(key)
        return link is not None and link.description is not None

    async with _runner_of(pod, "task-uid/main"), running(server) as replica:
        await eventually_async(lambda: is_described(replica))
        replica.operator.pools.kick(POOL.uid)
        await eventually_async(lambda: replica.idle)
        assert replica.operator.pools.claims.is_free(key.uid)
        assert _pods(server) == {key.name}


async def test_B13_a_sandbox_too_many_stays_if_another_operator_has_started_something_in_it() -> None:
    server = ApiServer()
    pod = _warm(server)
    key = _key_of(pod)
    async with _runner_of(pod, None) as runner, running(server) as replica:
        pools = replica.operator.pools
        await eventually_async(lambda: _is_unused(replica, key))
        runner.owner, runner.executions = {"uid": "others-uid/main", "attempt": 1}, ["main"]
        pools.give_up(key)
        pools.give_up(key)  # the next look comes while the runner is being asked
        await eventually_async(lambda: replica.idle)
        # Nobody has told of that task: it may be new.
        pools.kick(POOL.uid)
        await eventually_async(lambda: replica.idle)
        assert (_pods(server), pools.claims.is_free(key.uid)) == ({key.name}, True)
        # A list of all tasks that began since does not have it: it was deleted.
        await replica.operator._sweep()
        pools.kick(POOL.uid)
        await eventually_async(lambda: key.name not in _pods(server))


async def test_B13_what_a_task_is_done_with_stays_if_it_serves_another_one() -> None:
    server = ApiServer()
    pod = _warm(server)
    key = _key_of(pod)
    async with _runner_of(pod, None) as runner, running(server) as replica:
        operator = replica.operator
        await eventually_async(lambda: _is_unused(replica, key))
        runner.owner, runner.executions = {"uid": "others-uid/main", "attempt": 1}, ["main"]
        operator.tasks._actor.delete_pod(key, "task-uid")
        await eventually_async(lambda: replica.idle)
        assert _pods(server) == {key.name}
        # Asked for while somebody else is told no: what it is asked for in the end, happens.
        operator.pools.give_up(key)
        operator.tasks._actor.delete_pod(key, "others-uid")
        await eventually_async(lambda: key.name not in _pods(server))


def test_B13_a_sandbox_that_two_tasks_were_given_is_taken_until_both_have_let_go() -> None:
    claims, key = Claims(), ObjectKey("team", "warm-1", "uid-warm-1")
    claims.take(key, task())
    claims.take(key, task(uid="others-uid"))
    assert claims.release("task-uid", ()) == [key.uid]
    assert (claims.is_free(key.uid), list(claims.claimers(key.uid))) == (False, ["others-uid"])
    claims.release("others-uid", ())
    assert claims.is_free(key.uid)


async def test_B13_a_sandbox_too_many_is_retired_before_it_goes() -> None:
    server = ApiServer()
    pod = _warm(server)
    key = _key_of(pod)
    async with _runner_of(pod, None) as runner, running(server) as replica:
        await eventually_async(lambda: _is_unused(replica, key))
        replica.operator.pools.give_up(key)
        await eventually_async(lambda: runner.retired)
        assert key.name in _pods(server), "whoever has just been given it hears so from its runner"
        await eventually_async(lambda: key.name not in _pods(server))


async def test_B13_a_retired_sandbox_goes_when_its_operator_died_before_it_took_it_away() -> None:
    server = ApiServer()
    pod = _warm(server)
    used = {pod["metadata"]["name"]}
    async with _runner_of(pod, None) as runner:
        runner.retired = True
        async with running(server):
            await eventually_async(lambda: _pods(server), lambda pods: len(pods) == 1 and pods != used)


async def test_B13_a_sandbox_that_serves_a_task_whose_status_cannot_be_read_is_neither_ready_nor_taken_away() -> (
    None
):
    server = ApiServer()
    pod = _warm(server)
    server.put(AGENT_TASKS, task_body(CALCULATE, {"executions": "somebody's words"}))
    key = _key_of(pod)

    def answers(replica: Replica) -> bool:
        link = replica.operator._links.find(key)
        return link is not None and link.silent_since is None

    async with _runner_of(pod, "task-uid/main"), running(server) as replica:
        await eventually_async(lambda: answers(replica))
        replica.operator.pools.kick(POOL.uid)
        await eventually_async(lambda: replica.idle)
        # What the pool tells of itself is written at most once a second.
        status: Any = await eventually_async(
            lambda: server.objects["sandboxpools", "team", "small"].get("status")
        )
    assert (status["ready"], _pods(server)) == (0, {key.name})


async def test_B4_who_begins_to_wait_in_a_queue_gets_a_replacement_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("corral_operator.decisions.pool.LULL", timedelta(hours=1))
    server = ApiServer()
    pod = _warm(server)
    async with running(server) as replica:
        await eventually_async(lambda: replica.acts)
        taken = _key_of(pod)
        replica.operator.pools.claim(taken, task(uid="others-uid"))
        # Once that is written, which is done once a second, nothing else makes the pool be looked at.
        await eventually_async(
            lambda: server.objects["sandboxpools", "team", "small"].get("status", {}),
            lambda status: status.get("claimed") == 1,
        )
        await eventually_async(lambda: replica.idle)
        assert len(_pods(server)) == 1, "it is replaced after the lull"
        replica.operator.heard("ADDED", AGENT_TASKS, server.put(AGENT_TASKS, task_body(CALCULATE)))
        await eventually_async(lambda: _pods(server), lambda pods: len(pods) == 2)
