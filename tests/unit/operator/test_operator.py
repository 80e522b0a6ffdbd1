"""The operator as a whole on an API server in memory: terms of leadership, what is swept, what is refused."""

import asyncio
import gc
import logging
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from corral.cluster.port import AGENT_TASKS, PODS, POOLS, SECRETS, TOOLS, ObjectKey, Refused, Unavailable
from corral_operator.control.acting import SecretUnusableError
from corral_operator.control.measuring import forget_pools_but
from corral_operator.control.operator import Operator
from corral_operator.metrics import POOL_CLAIMS, POOL_REFILLS, POOL_SANDBOXES
from eventually import eventually_async
from unit.operator.api_server import ApiServer
from unit.operator.factories import raw_pod
from unit.operator.replica import Replica, running, status_of
from unit.operator.task_factories import pool_body, task, task_body

CALCULATE = {"tool": "calculator", "arguments": {"expression": "1"}}
NO_TOOL = {"tool": "there-is-none"}
DONE = {"completionTime": "2026-01-01T12:00:00Z", "reason": "Completed"}


def refuse(code: int, *, verb: str, plural: str, times: int | None = None) -> Callable[..., Awaitable[None]]:
    """Refuse requests of a kind, so many or all."""
    left = [times]

    async def before(asked: str, of: str, _name: str) -> None:
        if (asked, of) == (verb, plural) and left[0] != 0:
            left[0] = None if left[0] is None else left[0] - 1
            raise Refused(code, "Refused", f"it is wrong: {'x' * 9000}", {})

    return before


def unavailable(*, verb: str, plural: str, times: int) -> Callable[..., Awaitable[None]]:
    """Give so many requests of a kind no answer."""
    left = [times]

    async def before(asked: str, of: str, _name: str) -> None:
        if (asked, of) == (verb, plural) and left[0]:
            left[0] -= 1
            raise Unavailable("it does not answer")

    return before


# --- pages ---


async def test_B15_of_a_list_no_page_is_held_while_the_next_one_is_read() -> None:
    server = ApiServer(page=2)
    for number in range(5):
        body = task_body(CALCULATE, DONE, name=f"job-{number}", uid=f"uid-{number}")
        server.put(AGENT_TASKS, body)
    seen: list[weakref.ref[Any]] = []
    left: list[int] = []
    original = Operator.heard

    def heard(self: Operator, kind: str | None, resource: Any, body: Any) -> None:
        seen.append(weakref.ref(body))
        original(self, kind, resource, body)

    server.after_page = lambda page: left.append(len(page) + sum(one() is not None for one in seen))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Operator, "heard", heard)
        replica = Replica(server)
        await replica.operator._list(AGENT_TASKS, replica.operator.store.tasks)
    assert (len(replica.operator.store.tasks), len(seen), left) == (5, 5, [0, 0, 0])


# --- terms ---


async def test_B13_who_was_acting_when_the_lease_was_lost_does_not_go_on_in_the_next_term() -> None:
    server, waiting, cancelled = ApiServer(), asyncio.Event(), 0
    server.put(AGENT_TASKS, task_body(CALCULATE))

    async def before(verb: str, plural: str, _name: str) -> None:
        nonlocal cancelled
        if (verb, plural) == ("create", "pods") and not waiting.is_set():
            waiting.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled += 1
                raise

    server.before = before
    async with running(server) as replica:
        await waiting.wait()
        replica.lead(False)
        replica.lead(True)  # within one sweep: the loop has not come round
        await eventually_async(lambda: replica.acts)
        assert cancelled == 1, "a worker of the old term goes on in the new one"
        await eventually_async(lambda: server.asked("create", "pods"), lambda asked: asked == 2)
        await eventually_async(lambda: [key for key in server.objects if key[0] == "pods"], bool)


async def test_B13_what_was_listed_in_one_term_is_not_acted_on_in_the_next() -> None:
    server, lists = ApiServer(), [asyncio.Event(), asyncio.Event()]
    server.put(AGENT_TASKS, task_body(NO_TOOL))

    async def before(verb: str, plural: str, _name: str) -> None:
        if (verb, plural) == ("list", "agenttasks"):
            await lists[server.asked("list", "agenttasks") - 1].wait()

    server.before = before
    async with running(server) as replica:
        await eventually_async(lambda: server.asked("list", "agenttasks"))
        replica.lead(False)
        # Another operator acts meanwhile, on what this list has passed already.
        replica.lead(True)
        lists[0].set()
        await eventually_async(lambda: server.asked("list", "agenttasks"), lambda asked: asked == 2)
        assert not replica.acts
        assert server.asked("patch", "agenttasks") == 0
        lists[1].set()
        await eventually_async(lambda: status_of(server).get("completionTime"))


async def test_B13_nothing_is_deleted_any_more_once_the_lease_is_lost() -> None:
    server, asked = ApiServer(), asyncio.Event()
    server.put(AGENT_TASKS, task_body({**CALCULATE, "ttlSecondsAfterFinished": 0}, DONE))

    async def before(verb: str, _plural: str, _name: str) -> None:
        if verb == "delete":
            asked.set()
            await asyncio.Event().wait()

    server.before = before
    async with running(server) as replica:
        await asked.wait()
        replica.lead(False)
        await eventually_async(lambda: not replica.operator._background._tasks)
    assert (server.asked("delete", "agenttasks"), len(server.objects)) == (1, 1)


async def test_B13_a_task_that_is_read_again_has_the_sandboxes_that_another_operator_gave_it() -> None:
    server = ApiServer()
    server.put(AGENT_TASKS, task_body(NO_TOOL))
    sandbox = {"podName": "warm-1", "podUID": "warm-uid", "warm": True}
    execution = {"name": "main", "tool": "there-is-none", "phase": "Running", "sandbox": sandbox}

    async def before(verb: str, plural: str, _name: str) -> None:
        body = server.objects["agenttasks", "team", "job"]
        if (verb, plural) == ("patch", "agenttasks") and "status" not in body:
            server.put(AGENT_TASKS, {**body, "status": {"executions": [execution]}})
        if (verb, plural) == ("get", "pods"):
            await asyncio.Event().wait()  # what has become of the sandbox is not known yet

    server.before = before
    async with running(server) as replica:
        claims = replica.operator.pools.claims
        await eventually_async(lambda: list(claims.claimers("warm-uid")), lambda tasks: tasks == ["task-uid"])


async def test_B13_a_sandbox_that_a_task_had_claimed_and_never_got_is_not_taken_away_with_it() -> None:
    server = ApiServer()
    key = ObjectKey("team", "warm-1", server.put(PODS, raw_pod("warm-1"))["metadata"]["uid"])
    async with running(server) as replica:
        await eventually_async(lambda: replica.acts)
        claims = replica.operator.pools.claims
        claims.take(key, task())
        # Another operator gave it another sandbox, and it has ended there.
        replica.operator.heard("ADDED", AGENT_TASKS, server.put(AGENT_TASKS, task_body(CALCULATE, DONE)))
        await eventually_async(lambda: replica.idle and claims.is_free(key.uid))
        assert server.asked("delete", "pods") == 0


# --- sweeps ---


async def test_B13_a_pod_whose_deletion_was_refused_is_asked_for_again_by_the_sweep() -> None:
    server = ApiServer()
    pod = server.put(PODS, raw_pod("box"))
    sandbox = {"podName": "box", "podUID": pod["metadata"]["uid"]}
    done = {**DONE, "executions": [{"name": "main", "tool": "calculator", "sandbox": sandbox}]}
    server.put(AGENT_TASKS, task_body(CALCULATE, done))
    server.before = refuse(403, verb="delete", plural="pods", times=2)
    async with running(server, sweep_seconds=0.05):
        await eventually_async(lambda: ("pods", "team", "box") not in server.objects)
        assert server.asked("delete", "pods") == 3


async def test_B13_a_task_whose_time_is_over_is_asked_for_again_by_the_sweep() -> None:
    server = ApiServer()
    server.put(AGENT_TASKS, task_body({**CALCULATE, "ttlSecondsAfterFinished": 0}, DONE))
    server.before = refuse(403, verb="delete", plural="agenttasks", times=2)
    async with running(server, sweep_seconds=0.05):
        await eventually_async(lambda: not server.objects)
        assert server.asked("delete", "agenttasks") == 3


async def test_a_sweep_asks_nothing_for_ended_tasks_that_have_left_nothing() -> None:
    server = ApiServer()
    server.put(AGENT_TASKS, task_body({**CALCULATE, "ttlSecondsAfterFinished": 10**9}, DONE))
    async with running(server, sweep_seconds=0.05):
        await eventually_async(lambda: server.asked("list", "agenttasks"), lambda sweeps: sweeps > 3)
        assert {verb for verb, _, _ in server.requests} == {"list"}


# --- what the API server refuses ---


@pytest.mark.parametrize(
    ("code", "reason"), [(400, "SandboxFailed"), (413, "OutputLimit"), (422, "SandboxFailed")]
)
async def test_B13_a_result_that_is_refused_for_good_ends_the_task_without_it(code: int, reason: str) -> None:
    server = ApiServer()
    server.put(AGENT_TASKS, task_body(NO_TOOL))
    server.before = refuse(code, verb="patch", plural="agenttasks", times=1)
    async with running(server):
        await eventually_async(lambda: status_of(server).get("completionTime"))
        await eventually_async(lambda: server.asked("create", "events"))
    status = status_of(server)
    assert (status["phase"], status["reason"]) == ("Failed", reason)
    assert status["message"].startswith(
        "the task ended with ToolNotFound, but the API server refused the result"
    )
    assert f"{code}: it is wrong: xxx" in status["message"]
    assert len(status["message"]) < 500, "it is quoted briefly"
    conditions = {one["type"]: (one["status"], one["reason"]) for one in status["conditions"]}
    assert conditions["Finished"] == ("True", reason)
    assert server.asked("patch", "agenttasks") == 2


async def test_B13_what_ran_keeps_its_sandbox_when_its_end_is_refused() -> None:
    server = ApiServer()
    sandbox = {"podName": "box", "podUID": "gone", "warm": True}
    execution = {"name": "main", "tool": "calculator", "phase": "Running", "sandbox": sandbox}
    status = {"executions": [execution], "startTime": "2026-01-01T12:00:00Z", "phase": "Running"}
    server.put(AGENT_TASKS, task_body({**CALCULATE, "activeDeadlineSeconds": 1}, status))
    server.before = refuse(422, verb="patch", plural="agenttasks", times=1)
    async with running(server):
        await eventually_async(lambda: status_of(server).get("completionTime"))
    (found,) = status_of(server)["executions"]
    assert (found["reason"], found["phase"], found["sandbox"]["podName"]) == (
        "SandboxFailed",
        "Failed",
        "box",
    )


async def test_B13_a_task_whose_every_status_is_refused_is_told_and_left_alone_for_a_while(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = ApiServer()
    server.put(AGENT_TASKS, task_body(NO_TOOL))
    server.before = refuse(422, verb="patch", plural="agenttasks", times=4)

    async def told(replica: Replica, times: int) -> None:
        await eventually_async(lambda: server.asked("patch", "agenttasks"), lambda asked: asked == times)
        await eventually_async(lambda: replica.idle)

    with caplog.at_level(logging.ERROR):
        async with running(server) as replica:
            await told(replica, 2)
            replica.operator.tasks.kick("task-uid")
            await eventually_async(lambda: replica.idle)
            assert server.asked("patch", "agenttasks") == 2, "whoever kicks"
            for _ in range(2):
                replica.operator.tasks._memories["task-uid"].refused_until = None  # the pause is over
                replica.operator.tasks.kick("task-uid")
                await eventually_async(lambda: replica.idle)
    assert server.asked("patch", "agenttasks") == 5
    assert status_of(server)["reason"] == "ToolNotFound", "what was refused is taken now"
    events = [body for key, body in server.objects.items() if key[0] == "events"]
    assert {event["reason"] for event in events} == {"StatusRefused", "ToolNotFound"}
    assert "the API server refuses every status of this task: 422" in caplog.text


async def test_M4_a_task_that_is_left_alone_keeps_no_place_in_a_queue() -> None:
    server = ApiServer()
    server.put(POOLS, pool_body())
    steps = [{"name": "a", "tool": "there-is-none", "onFailure": "Continue"}, {"name": "b", **CALCULATE}]
    accepted = {
        "type": "Accepted",
        "status": "True",
        "reason": "Accepted",
        "message": "",
        "lastTransitionTime": "2026-01-01T12:00:00Z",
    }
    server.put(AGENT_TASKS, task_body({"steps": steps}, {"conditions": [accepted]}))
    server.before = refuse(422, verb="patch", plural="agenttasks")
    async with running(server) as replica:
        await eventually_async(lambda: replica.operator.store.tasks.get("task-uid"))
        memories = replica.operator.tasks._memories
        await eventually_async(lambda: "task-uid" in memories and memories["task-uid"].refused_until)
        await eventually_async(lambda: replica.idle)
        assert not replica.operator.pools.queues.waits_for("team", "small")


async def test_B13_a_refusal_that_may_pass_is_waited_out() -> None:
    server = ApiServer()
    server.put(AGENT_TASKS, task_body(NO_TOOL))
    server.before = refuse(403, verb="patch", plural="agenttasks", times=1)
    async with running(server):
        await eventually_async(lambda: status_of(server).get("completionTime"))
    assert status_of(server)["reason"] == "ToolNotFound"


# --- secrets ---


async def test_B7_who_names_a_secret_is_not_told_what_else_it_holds() -> None:
    server = ApiServer()
    server.put(
        SECRETS, {"metadata": {"namespace": "team", "name": "theirs"}, "data": {"root-password": "eA=="}}
    )
    replica = Replica(server)
    reference = {"name": "theirs", "key": "guess", "env": "GUESS"}
    with pytest.raises(SecretUnusableError) as error:
        await replica.operator.tasks._actor._read_secrets(task({**CALCULATE, "secretRefs": [reference]}))
    assert str(error.value) == "Secret theirs has no key guess; add it, or correct spec.secretRefs"


# --- metrics ---


def _pools(metric: Any) -> set[str]:
    return {one.labels["pool"] for family in metric.collect() for one in family.samples}


async def test_M9_the_series_of_a_pool_end_with_it() -> None:
    for pool in ("stays", "goes"):
        POOL_SANDBOXES.labels("forgetful", pool, "ready").set(1)
        POOL_CLAIMS.labels("forgetful", pool, "miss").inc()
        POOL_REFILLS.labels("forgetful", pool).inc()
    POOL_REFILLS.labels("elsewhere", "stays").inc()
    forget_pools_but({("forgetful", "stays")})
    assert [_pools(metric) for metric in (POOL_SANDBOXES, POOL_CLAIMS, POOL_REFILLS)] == [{"stays"}] * 3
    assert POOL_REFILLS.labels("forgetful", "stays")._value.get() == 1
    forget_pools_but(set())
    assert [_pools(metric) for metric in (POOL_SANDBOXES, POOL_CLAIMS, POOL_REFILLS)] == [set()] * 3


async def test_M9_who_stands_by_tells_nothing_of_pools() -> None:
    server = ApiServer()
    server.put(POOLS, pool_body(replicas=0))
    async with running(server) as replica:
        await eventually_async(lambda: _pools(POOL_SANDBOXES), lambda pools: pools == {"small"})
        replica.lead(False)
        await eventually_async(lambda: _pools(POOL_SANDBOXES), lambda pools: pools == set())


# --- memory ---


async def test_M1_nothing_is_kept_of_tasks_that_came_ended_and_went() -> None:
    wrong = {"tool": "calculator", "arguments": {"expression": 7}}

    async def come_and_go(replica: Replica, server: ApiServer, batch: int) -> int:
        names = [f"job-{batch}-{number}" for number in range(100)]
        for name in names:
            body = server.put(AGENT_TASKS, task_body(wrong, name=name, uid=f"uid-{name}"))
            replica.operator.heard("ADDED", AGENT_TASKS, body)
        await eventually_async(lambda: all("completionTime" in status_of(server, name) for name in names))
        for name in names:
            replica.operator.heard("MODIFIED", AGENT_TASKS, server.objects["agenttasks", "team", name])
            replica.operator.heard("DELETED", AGENT_TASKS, server.objects.pop(("agenttasks", "team", name)))
        await eventually_async(lambda: replica.idle)
        server.forget()
        gc.collect()
        return len(gc.get_objects())

    server = ApiServer()
    async with running(server) as replica:
        await eventually_async(lambda: replica.acts)
        # Compiled schemas, metrics and the like come with the first ones.
        counts = [await come_and_go(replica, server, batch) for batch in range(6)]
    assert counts[-1] - counts[-3] < 100, counts


def tool_body(result: str, **metadata: Any) -> Any:
    run = {"function": {"code": f"def main():\n    return {result!r}"}}
    return {
        "apiVersion": "corral.dev/v1alpha1",
        "kind": "Tool",
        "metadata": {"name": "mine", "namespace": "team", **metadata},
        "spec": {"description": "x", "run": run},
    }


def known(replica: Replica) -> str | None:
    """Return the code of the tool, as the operator knows it."""
    catalogue = replica.operator.store.catalogue("team")
    function = catalogue.get("mine").spec.run.function if "mine" in catalogue else None
    return function.code if function is not None else None


async def test_S6_a_task_finds_the_tool_that_was_made_before_it_though_no_watch_has_told_of_it() -> None:
    server = ApiServer()
    async with running(server) as replica:
        await eventually_async(lambda: replica.acts)
        server.put(TOOLS, tool_body("first"))
        body = server.put(AGENT_TASKS, task_body({"tool": "mine"}, name="job", uid="uid-job"))
        replica.operator.heard("ADDED", AGENT_TASKS, body)  # and of the tool nothing
        await eventually_async(lambda: server.asked("create", "pods") == 1)
        assert "first" in (known(replica) or "")

        # Only a task that names its version is known to be meant for the newer one.
        made = server.put(
            TOOLS, tool_body("second", uid=server.objects["tools", "team", "mine"]["metadata"]["uid"])
        )
        versions = {"corral.dev/tool-versions": f"mine={made['metadata']['resourceVersion']}"}
        body = server.put(
            AGENT_TASKS, task_body({"tool": "mine"}, name="other", uid="uid-other", annotations=versions)
        )
        replica.operator.heard("ADDED", AGENT_TASKS, body)
        await eventually_async(lambda: server.asked("create", "pods") == 2)
        assert "second" in (known(replica) or "")
        assert server.asked("get", "tools") == 2


async def test_S6_a_tool_that_went_before_the_task_began_is_not_run_in_the_version_before() -> None:
    server = ApiServer()
    server.put(TOOLS, tool_body("first"))
    async with running(server) as replica:
        await eventually_async(lambda: replica.acts)
        assert known(replica)
        server.remove(TOOLS, "team", "mine")
        versions = {"corral.dev/tool-versions": "mine=99999"}
        body = server.put(
            AGENT_TASKS, task_body({"tool": "mine"}, name="job", uid="uid-job", annotations=versions)
        )
        replica.operator.heard("ADDED", AGENT_TASKS, body)
        await eventually_async(lambda: "completionTime" in status_of(server))
        assert status_of(server)["reason"] == "ToolNotFound"
        assert known(replica) is None
        assert server.asked("get", "tools") == 1


async def test_S6_a_newer_version_that_cannot_be_read_takes_the_place_of_the_one_before() -> None:
    server = ApiServer()
    made = server.put(TOOLS, tool_body("first"))
    async with running(server) as replica:
        await eventually_async(lambda: replica.acts)
        assert known(replica)
        broken = tool_body("second", uid=made["metadata"]["uid"])
        broken["spec"]["fromALaterVersion"] = True
        version = server.put(TOOLS, broken)["metadata"]["resourceVersion"]
        annotations = {"corral.dev/tool-versions": f"mine={version}"}
        body = server.put(
            AGENT_TASKS, task_body({"tool": "mine"}, name="job", uid="uid-job", annotations=annotations)
        )
        replica.operator.heard("ADDED", AGENT_TASKS, body)
        await eventually_async(lambda: "completionTime" in status_of(server))
        assert status_of(server)["reason"] == "ToolNotFound"
        assert server.asked("create", "pods") == 0


async def test_S6_of_two_tools_of_one_name_the_newer_counts_whichever_is_heard_of_last() -> None:
    server = ApiServer()
    async with running(server) as replica:
        await eventually_async(lambda: replica.acts)
        first = server.put(TOOLS, tool_body("first"))
        server.remove(TOOLS, "team", "mine")
        second = server.put(TOOLS, tool_body("second"))
        for body in (second, first):
            replica.operator.heard("ADDED", TOOLS, body)
        assert "second" in (known(replica) or "")
        replica.operator.heard("DELETED", TOOLS, first)
        assert "second" in (known(replica) or "")
        named = replica.operator.store.tools.named("team", "mine")
        assert named is not None
        assert named.metadata.uid == second["metadata"]["uid"]


async def test_S6_who_may_not_ask_for_tools_goes_on_with_those_that_are_known(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = ApiServer()
    server.before = refuse(403, verb="get", plural="tools")
    async with running(server) as replica:
        await eventually_async(lambda: replica.acts)
        steps = [
            {"name": "a", "tool": "calculator", "arguments": {"expression": "1"}},
            {"name": "b", "tool": "none"},
        ]
        spec = {"steps": steps, "strategy": "Parallel"}
        body = server.put(AGENT_TASKS, task_body(spec, name="job", uid="uid-job"))
        replica.operator.heard("ADDED", AGENT_TASKS, body)
        await eventually_async(lambda: status_of(server).get("executions"))
        told = {one["name"]: one.get("reason") for one in status_of(server)["executions"]}
        assert told["b"] == "ToolNotFound"
        assert server.asked("get", "tools") == 1
    assert "cannot be asked for" in caplog.text


async def test_S6_a_tool_that_cannot_be_asked_for_is_asked_for_again() -> None:
    server = ApiServer()
    server.before = unavailable(verb="get", plural="tools", times=2)
    async with running(server) as replica:
        await eventually_async(lambda: replica.acts)
        server.put(TOOLS, tool_body("first"))
        body = server.put(AGENT_TASKS, task_body({"tool": "mine"}, name="job", uid="uid-job"))
        replica.operator.heard("ADDED", AGENT_TASKS, body)
        await eventually_async(lambda: server.asked("create", "pods") == 1)
        assert server.asked("get", "tools") == 3


async def test_A7_a_tool_whose_schema_takes_for_ever_ends_its_task_and_stops_nobody_else() -> None:
    server = ApiServer()
    schema = {"type": "object", "properties": {"a": {"pattern": "^(a|aa)+$"}}}
    server.put(
        TOOLS,
        {
            "apiVersion": "corral.dev/v1alpha1",
            "kind": "Tool",
            "metadata": {"name": "hostile", "namespace": "team"},
            "spec": {"description": "x", "inputSchema": schema, "run": {"builtin": "calculator"}},
        },
    )
    server.put(
        AGENT_TASKS,
        task_body({"tool": "hostile", "arguments": {"a": "a" * 200 + "!"}}, name="job", uid="uid-job"),
    )
    server.put(AGENT_TASKS, task_body(NO_TOOL, name="other", uid="uid-other"))
    async with running(server):
        await eventually_async(
            lambda: all("completionTime" in status_of(server, name) for name in ("job", "other"))
        )
    assert status_of(server)["reason"] == "InvalidArguments"
    assert "took too much time or memory" in status_of(server)["message"]
    assert status_of(server, "other")["reason"] == "ToolNotFound"
