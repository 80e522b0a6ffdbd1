"""B1, B13, M5: tasks of callers in a cluster, on an API server in memory."""

import asyncio
import sys
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import pytest

from corral.api import AgentTask, ManifestError, Reason, Tool
from corral.catalogue import Catalogue
from corral.catalogue.tool_versions import TOOL_VERSIONS_ANNOTATION, versions_read
from corral.cluster import mirror as mirrors
from corral.cluster.port import AGENT_TASKS, TOOLS, Json, Refused, Resource, Unavailable
from corral_gateway.problems import ProblemError
from corral_gateway.tasks.cluster import executor as executors
from corral_gateway.tasks.cluster.bodies import Bodies
from corral_gateway.tasks.cluster.executor import ClusterTasks
from corral_gateway.tasks.cluster.namespaces import Namespaces
from corral_gateway.tasks.cluster.runners import Runners
from corral_gateway.tasks.cluster.tools import ClusterTools
from corral_gateway.tasks.intake import task_of, with_key
from corral_gateway.tasks.port import Cursor, KeyUsedError, NoCapacityError, TaskFilter
from corral_gateway.tasks.stamps import is_made_of, keyed_name
from eventually import eventually_async
from unit.gateway.cluster_server import TaskServer
from unit.operator.api_server import ApiServer

SPEC = {"tool": "calculator", "arguments": {"expression": "6*7"}}


class _Observer:
    def __init__(self) -> None:
        self.told: list[tuple[str | None, str, Reason | None]] = []

    def ended(self, task: AgentTask, caller: str, _seconds: float) -> None:
        self.told.append((task.metadata.name, caller, task.reason))


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirrors, "_FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(mirrors, "_LONGEST_PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(executors, "_HEARSAY_SECONDS", 0.2)
    monkeypatch.setattr(executors, "_START_SECONDS", 0.2)


@asynccontextmanager
async def _tasks(
    server: ApiServer,
    *,
    namespaces: Namespaces | None = None,
    waiting: int = 100,
    each: int = 100,
    tools: Catalogue | None = None,
) -> AsyncIterator[tuple[ClusterTasks, _Observer]]:
    observer = _Observer()
    tasks = ClusterTasks(
        server,
        server,
        namespaces or Namespaces("team", {}),
        catalogue_of=lambda _caller: tools or Catalogue.builtin(),
        runners=Runners(server, "corral"),
        observers=[observer],
        waiting_tasks=waiting,
        waiting_tasks_each=each,
    )
    await tasks.start()
    try:
        yield tasks, observer
    finally:
        await tasks.close()


def _asked(caller: str = "ann", key: str | None = None, **spec: Any) -> AgentTask:
    task = task_of({**SPEC, **spec}, caller)
    return task if key is None else with_key(task, key)


def _all(limit: int = 100, **wanted: Any) -> TaskFilter:
    return TaskFilter(limit, **wanted)


def _stored(server: ApiServer) -> list[Json]:
    return [body for (plural, _, _), body in server.objects.items() if plural == "agenttasks"]


async def test_B1_a_task_is_stamped_and_its_end_reaches_who_waits() -> None:
    server = TaskServer()
    async with _tasks(server) as (tasks, observer):
        asked = _asked("system:serviceaccount:a:b")
        made = await tasks.submit(asked, "system:serviceaccount:a:b")
        assert is_made_of(asked, made)
        waits = asyncio.ensure_future(tasks.wait(made.metadata.uid or "", "system:serviceaccount:a:b", 60))
        await asyncio.sleep(0)
        server.end(made.metadata.uid)
        ended = await waits
        assert ended is not None
        assert ended.reason is Reason.COMPLETED
        assert observer.told == [(made.metadata.name, "system:serviceaccount:a:b", Reason.COMPLETED)]
    (body,) = _stored(server)
    assert body["metadata"]["namespace"] == "team"
    assert body["metadata"]["labels"]["corral.dev/caller"].startswith("sub-")
    assert server.asked("get", "agenttasks") == 0  # nobody polls


async def test_B1_the_same_key_is_the_same_task_whichever_gateway_is_asked() -> None:
    server = TaskServer()
    async with _tasks(server) as (one, _), _tasks(server) as (other, _):
        asked = [_asked(key="k") for _ in range(6)]
        made = await asyncio.gather(
            *(tasks.submit(task, "ann") for tasks, task in zip([one, other] * 3, asked, strict=True))
        )
        assert len({task.metadata.uid for task in made}) == 1
        assert sum(is_made_of(task, taken) for task, taken in zip(asked, made, strict=True)) == 1
        before = await other.made_before(_asked(key="k"), "ann")
        assert before is not None
        assert before.metadata.uid == made[0].metadata.uid
        for call in (one.submit, other.made_before):
            with pytest.raises(KeyUsedError):
                await call(_asked(key="k", limits={"timeout": "5s"}), "ann")
        assert await one.made_before(_asked("bob", key="k"), "bob") is None
        assert (await one.submit(_asked("bob", key="k"), "bob")).metadata.uid != made[0].metadata.uid
    assert len(_stored(server)) == 2


@pytest.mark.parametrize("is_written", [True, False])
async def test_B13_a_create_without_an_answer_is_looked_up_before_anybody_is_told(
    *, is_written: bool
) -> None:
    server = TaskServer()
    async with _tasks(server) as (tasks, _):
        create = server.create

        async def lost(resource: Resource, namespace: str, body: Mapping[str, Any]) -> Json:
            if is_written:
                await create(resource, namespace, body)
            raise Unavailable("the connection broke")

        server.create = lost  # type: ignore[method-assign]
        asked = _asked()
        if is_written:
            assert is_made_of(asked, await tasks.submit(asked, "ann"))
        else:
            with pytest.raises(ProblemError) as refused:
                await tasks.submit(asked, "ann")
            assert (refused.value.status, refused.value.reason) == (503, "ClusterUnavailable")
    assert len(_stored(server)) == is_written


async def test_A9_what_the_cluster_refuses_is_refused_with_its_reason() -> None:
    server = TaskServer()
    async with _tasks(server, waiting=1) as (tasks, _):

        async def quota(verb: str, _plural: str, _name: str) -> None:
            if verb == "create":
                raise Refused(403, "Forbidden", "exceeded quota: small", {})

        server.before = quota
        with pytest.raises(ProblemError) as refused:
            await tasks.submit(_asked(), "ann")
        assert (refused.value.status, refused.value.reason) == (429, "QuotaExceeded")
        server.before = None
        named = {"apiVersion": "corral.dev/v1alpha1", "kind": "AgentTask", "spec": SPEC}
        elsewhere = task_of({**named, "metadata": {"name": "mine", "namespace": "other"}}, "ann")
        with pytest.raises(ProblemError) as refused:
            await tasks.submit(elsewhere, "ann")
        assert (refused.value.status, refused.value.reason) == (403, "Forbidden")
        server.end(
            (await tasks.submit(task_of({**named, "metadata": {"name": "mine"}}, "ann"), "ann")).metadata.uid
        )
        await eventually_async(lambda: tasks.waiting == 0)
        with pytest.raises(ProblemError) as refused:
            await tasks.submit(task_of({**named, "metadata": {"name": "mine"}}, "ann"), "ann")
        assert (refused.value.status, refused.value.reason) == (409, "NameTaken")
        await tasks.submit(_asked(), "ann")
        with pytest.raises(NoCapacityError):
            await tasks.submit(_asked(), "ann")


async def test_B4_each_caller_has_waiting_places_and_a_flood_takes_none_of_anothers() -> None:
    server = TaskServer()
    async with _tasks(server, waiting=6, each=3) as (tasks, _):
        answers = await asyncio.gather(
            *(tasks.submit(_asked("ann"), "ann") for _ in range(8)), return_exceptions=True
        )
        # Also those that come at once: what is on its way is counted.
        refused = [one for one in answers if isinstance(one, NoCapacityError)]
        assert (len(_stored(server)), len(refused)) == (3, 5)
        assert all(one.own and one.retry_after_seconds > 0 for one in refused)
        for _ in range(3):
            await tasks.submit(_asked("bob"), "bob")
        with pytest.raises(NoCapacityError) as full:
            await tasks.submit(_asked("cid"), "cid")
        assert not full.value.own
        first = _stored(server)[0]["metadata"]["uid"]
        server.put(AGENT_TASKS, {**_stored(server)[0], "status": {"phase": "Running"}})
        await eventually_async(lambda: tasks.waiting == 5)
        await tasks.submit(_asked("ann"), "ann")
        with pytest.raises(NoCapacityError):
            await tasks.submit(_asked("ann"), "ann")
        server.end(first)
        for body in _stored(server):
            server.end(body["metadata"]["uid"])
        await eventually_async(lambda: tasks.waiting == 0)
        assert tasks._waiting.callers == 0  # who waits no more is forgotten


async def test_B4_waiting_places_are_counted_over_all_gateways_and_kubectl() -> None:
    server = TaskServer()
    async with _tasks(server, waiting=3, each=2) as (one, _), _tasks(server, waiting=3, each=2) as (other, _):
        for _ in range(2):
            await one.submit(_asked("ann"), "ann")
        await eventually_async(lambda: other.waiting == 2)
        with pytest.raises(NoCapacityError) as refused:
            await other.submit(_asked("ann"), "ann")
        assert refused.value.own
        server.put(AGENT_TASKS, {"metadata": {"name": "kubectl", "namespace": "team"}, "spec": SPEC})
        await eventually_async(lambda: other.waiting == 3)
        with pytest.raises(NoCapacityError) as refused:
            await other.submit(_asked("bob"), "bob")
        assert not refused.value.own


async def test_B4_a_task_that_is_not_taken_gives_its_waiting_place_back() -> None:
    server = TaskServer()
    async with _tasks(server, each=1) as (tasks, _):

        async def away(verb: str, _plural: str, _name: str) -> None:
            if verb == "create":
                raise Refused(403, "Forbidden", "exceeded quota: small", {})

        server.before = away
        for _ in range(3):
            with pytest.raises(ProblemError):
                await tasks.submit(_asked(), "ann")
        server.before = None
        await tasks.submit(_asked(), "ann")


async def test_M5_anothers_task_is_as_one_that_does_not_exist() -> None:
    server = TaskServer()
    async with _tasks(server) as (tasks, _):
        uid = (await tasks.submit(_asked(), "ann")).metadata.uid or ""
        for other in ("bob", ""):
            assert await tasks.get(uid, other) is None
            assert await tasks.wait(uid, other, 60) is None
            assert await tasks.events(uid, other, 0) is None
            assert await tasks.cancel(uid, other) is None
            assert await tasks.find(other, _all()) == []
        assert await tasks.get(str(uuid.uuid4()), "ann") is None
        assert await tasks.get("no id at all", "ann") is None
    assert "cancel" not in _stored(server)[0]["spec"]
    assert not tasks._memory._changes  # who asks for what is not there leaves nothing behind


async def test_B13_a_task_of_another_gateway_is_found_as_soon_as_the_watch_tells() -> None:
    server = TaskServer()
    async with _tasks(server) as (one, _), _tasks(server) as (other, _):
        made = await one.submit(_asked(), "ann")
        assert await other.get(made.metadata.uid or "", "ann") is not None


async def test_B13_lists_are_filtered_and_their_pages_stable() -> None:
    server = TaskServer()
    async with _tasks(server) as (tasks, _):
        made = [await tasks.submit(_asked(), "ann") for _ in range(7)]
        await tasks.submit(_asked("bob"), "bob")
        server.end(made[2].metadata.uid)
        await eventually_async(lambda: tasks.active == 7)
        names = [task.metadata.name for task in reversed(made)]
        seen: list[str | None] = []
        after = None
        while True:
            page = await tasks.find("ann", _all(3, after=after))
            if not page:
                break
            seen += [task.metadata.name for task in page]
            last = page[-1].metadata
            after = Cursor(datetime.fromisoformat(last.creation_timestamp or ""), last.uid or "")
            await tasks.submit(_asked(), "ann")  # what is new comes before, and shifts nothing
        assert seen == names
        (ended,) = await tasks.find("ann", _all(reason="Completed"))
        assert ended.metadata.uid == made[2].metadata.uid
        assert await tasks.find("ann", _all(tool="shell")) == []


async def test_B15_what_has_no_room_is_read_again_when_it_is_wanted() -> None:
    server = TaskServer()
    async with _tasks(server) as (tasks, _):
        tasks._memory.bodies = Bodies(most_bytes=1500)
        made = [await tasks.submit(_asked(), "ann") for _ in range(20)]
        found = await tasks.find("ann", _all())
        assert [task.metadata.uid for task in found] == [task.metadata.uid for task in reversed(made)]
        assert 10 < server.asked("get", "agenttasks") <= 20
        assert len(tasks._memory.bodies._packed) < 10


async def test_B4_cancel_says_so_in_the_spec_and_an_ended_task_stays() -> None:
    server = TaskServer()
    async with _tasks(server) as (tasks, _):
        uid = (await tasks.submit(_asked(), "ann")).metadata.uid or ""
        cancelled = await tasks.cancel(uid, "ann")
        assert cancelled is not None
        assert cancelled.spec.cancel
        server.end(uid, Reason.CANCELLED)
        await eventually_async(lambda: tasks.active == 0)
        assert (await tasks.cancel(uid, "ann") or cancelled).reason is Reason.CANCELLED
        assert server.asked("patch", "agenttasks") == 1


async def test_B13_who_waits_goes_on_waiting_through_an_outage_and_new_tasks_are_refused() -> None:
    server = TaskServer()
    async with _tasks(server) as (tasks, _):
        uid = (await tasks.submit(_asked(), "ann")).metadata.uid or ""
        waits = asyncio.ensure_future(tasks.wait(uid, "ann", 60))
        await eventually_async(lambda: server.watches == 1)

        async def away(_verb: str, _plural: str, _name: str) -> None:
            raise Unavailable("away")

        server.before = away
        server.cut_watches()
        await eventually_async(lambda: not tasks.is_current)
        with pytest.raises(ProblemError) as refused:
            await tasks.submit(_asked(), "ann")
        assert (refused.value.status, refused.value.reason) == (503, "ClusterUnavailable")
        assert len(await tasks.find("ann", _all())) == 1  # what was known is still known
        server.end(uid)
        assert not waits.done()
        server.before = None
        ended = await waits
        assert ended is not None
        assert ended.reason is Reason.COMPLETED


async def test_B13_a_gateway_that_starts_without_a_cluster_serves_and_says_so() -> None:
    server = TaskServer()

    async def away(_verb: str, _plural: str, _name: str) -> None:
        raise Unavailable("away")

    server.before = away
    async with _tasks(server) as (tasks, _):
        for call in (tasks.find("ann", _all()), tasks.get(str(uuid.uuid4()), "ann")):
            with pytest.raises(ProblemError) as refused:
                await call
            assert refused.value.reason == "ClusterUnavailable"
        server.before = None
        await eventually_async(lambda: tasks.is_current)
        assert await tasks.find("ann", _all()) == []


async def test_B13_a_task_that_is_deleted_before_its_end_ends_for_who_waits() -> None:
    server = TaskServer()
    async with _tasks(server) as (tasks, observer):
        made = await tasks.submit(_asked(), "ann")
        uid, name = made.metadata.uid or "", made.metadata.name or ""
        events = await tasks.events(uid, "ann", 0)
        assert events is not None
        waits = asyncio.ensure_future(tasks.wait(uid, "ann", 60))
        await asyncio.sleep(0)
        server.remove(AGENT_TASKS, "team", name)
        ended = await waits
        assert ended is not None
        assert ended.reason is Reason.CANCELLED
        assert [event.kind async for event in events] == ["finished"]
        assert observer.told == [(name, "ann", Reason.CANCELLED)]
        assert await tasks.get(uid, "ann") is None
        assert not tasks._memory._changes


async def test_A1_observers_are_told_once_of_every_task_kubectls_too() -> None:
    server = TaskServer()
    server.put(AGENT_TASKS, {"metadata": {"name": "old", "namespace": "team"}, "spec": SPEC})
    server.end(_stored(server)[0]["metadata"]["uid"])
    async with _tasks(server) as (tasks, observer):
        body = server.put(AGENT_TASKS, {"metadata": {"name": "kubectl", "namespace": "team"}, "spec": SPEC})
        server.put(AGENT_TASKS, {"metadata": {"name": "else", "namespace": "other"}, "spec": SPEC})
        uid = body["metadata"]["uid"]
        server.end(uid)
        await eventually_async(lambda: observer.told)
        server.end(uid)  # a later write to it
        server._history.clear()
        server.forgotten = server._version = 10_000
        server.cut_watches()
        await eventually_async(lambda: server.asked("list", "agenttasks") == 2)
        server.remove(AGENT_TASKS, "team", "kubectl")
        made = await tasks.submit(_asked(), "ann")
        server.end(made.metadata.uid)
        await eventually_async(lambda: len(observer.told) > 1)
        assert observer.told == [
            ("kubectl", "", Reason.COMPLETED),
            (made.metadata.name, "ann", Reason.COMPLETED),
        ]


class _Lasting(_Observer):
    def ended_before(self, task: AgentTask, caller: str) -> None:
        self.told.append((f"before {task.metadata.name}", caller, task.reason))


async def test_A1_who_remembers_is_told_what_ended_while_no_gateway_looked() -> None:
    server = TaskServer()
    server.put(AGENT_TASKS, {"metadata": {"name": "old", "namespace": "team"}, "spec": SPEC})
    server.end(_stored(server)[0]["metadata"]["uid"])
    plain, lasting = _Observer(), _Lasting()
    tasks = ClusterTasks(
        server,
        server,
        Namespaces("team", {}),
        catalogue_of=lambda _caller: Catalogue.builtin(),
        runners=Runners(server, "corral"),
        observers=[plain, lasting],
        waiting_tasks=1,
        waiting_tasks_each=1,
    )
    await tasks.start()
    assert (plain.told, lasting.told) == ([], [("before old", "", Reason.COMPLETED)])
    await tasks.close()


async def test_M5_a_namespace_that_cannot_be_read_stops_no_other() -> None:
    server = TaskServer()
    pages = server.pages

    def refuse_one(
        resource: Resource, namespace: str | None, **options: str
    ) -> AsyncIterator[tuple[list[Json], int]]:
        if namespace == "closed":
            raise Refused(403, "Forbidden", "cannot list", {})
        return pages(resource, namespace, **options)

    server.pages = refuse_one  # type: ignore[method-assign]
    async with _tasks(server, namespaces=Namespaces("team", {"bob": "closed"})) as (tasks, _):
        assert await tasks.find("ann", _all()) == []
        with pytest.raises(ProblemError) as refused:
            await tasks.find("bob", _all())
        assert refused.value.reason == "ClusterUnavailable"


async def test_A1_a_task_that_no_gateway_would_have_taken_is_told_of_all_the_same() -> None:
    server = TaskServer()
    async with _tasks(server) as (_, observer):
        wrong = {"tool": "calculator", "steps": [{}], "unheard": 1}
        body = server.put(AGENT_TASKS, {"metadata": {"name": "wrong", "namespace": "team"}, "spec": wrong})
        server.end(body["metadata"]["uid"], Reason.INVALID_SPEC)
        await eventually_async(lambda: observer.told == [("wrong", "", Reason.INVALID_SPEC)])


async def test_A2_tools_are_the_namespaces_own_and_the_built_in_ones() -> None:
    server = TaskServer()
    spec = {"description": "Says hello.", "run": {"command": {"argv": ["echo", "hello"]}}}
    head = {"apiVersion": "corral.dev/v1alpha1", "kind": "Tool"}
    server.put(TOOLS, {**head, "metadata": {"name": "hello", "namespace": "a"}, "spec": spec})
    tools = ClusterTools(server, Namespaces("b", {"ann": "a"}))
    await tools.start()
    try:
        await eventually_async(lambda: server.watches == 2)
        assert "hello" in tools.catalogue("ann")
        assert "calculator" in tools.catalogue("ann")
        assert "hello" not in tools.catalogue("bob")
        assert tools.catalogue("ann") is tools.catalogue("ann")
        server.remove(TOOLS, "a", "hello")
        await eventually_async(lambda: "hello" not in tools.catalogue("ann"))
        server.put(TOOLS, {**head, "metadata": {"name": "broken", "namespace": "a"}, "spec": {"run": 1}})
        server.put(TOOLS, {**head, "metadata": {"name": "late", "namespace": "a"}, "spec": spec})
        await eventually_async(lambda: "late" in tools.catalogue("ann"))
        assert "broken" not in tools.catalogue("ann")
    finally:
        await tools.close()


async def test_B1_nobody_takes_the_name_of_anothers_key() -> None:
    server = TaskServer()
    name = keyed_name("ann", "monday")
    manifest = {
        "apiVersion": "corral.dev/v1alpha1",
        "kind": "AgentTask",
        "metadata": {"name": name},
        "spec": SPEC,
    }
    async with _tasks(server) as (tasks, _):
        with pytest.raises(ManifestError) as refused:
            await tasks.submit(task_of(manifest, "bob"), "bob")
        assert [problem.path for problem in refused.value.problems] == ["metadata.name"]
        made = await tasks.submit(_asked(key="monday"), "ann")
        assert made.metadata.name == name


async def test_B1_a_task_of_another_under_the_name_of_a_key_is_never_shown() -> None:
    server = TaskServer()
    async with _tasks(server) as (tasks, _):
        made = await tasks.submit(_asked(key="monday"), "ann")
        (body,) = _stored(server)
        labels = {**body["metadata"]["labels"], "corral.dev/caller": "bob"}
        server.put(AGENT_TASKS, {**body, "metadata": {**body["metadata"], "labels": labels}})
        async with asyncio.timeout(60):
            while not await tasks.find("bob", _all()):
                await asyncio.sleep(0)
        with pytest.raises(KeyUsedError):
            await tasks.made_before(_asked(key="monday"), "ann")
        with pytest.raises(KeyUsedError):
            await tasks.submit(_asked(key="monday"), "ann")
        assert made.metadata.name == keyed_name("ann", "monday")


async def test_S6_a_task_tells_the_operator_which_versions_of_its_tools_there_are() -> None:
    def tool(name: str, version: str | None) -> Tool:
        spec = {"description": "x", "run": {"builtin": "calculator"}}
        return Tool.model_validate({"metadata": {"name": name, "resourceVersion": version}, "spec": spec})

    server = TaskServer()
    tools = Catalogue([tool("say_hello", "41"), tool("other", "40"), tool("built-in", None)])
    async with _tasks(server, tools=tools) as (tasks, _):
        steps = [
            {"name": name, "tool": of} for name, of in (("a", "say-hello"), ("b", "built-in"), ("c", "none"))
        ]
        made = await tasks.submit(task_of({"steps": [*steps, {"name": "d", "tool": "other"}]}, "ann"), "ann")
        # Of one that is not known here, perhaps because it has just gone, the operator asks whatever it knows.
        assert made.metadata.annotations[TOOL_VERSIONS_ANNOTATION] == "none=?,other=40,say-hello=41"
        versions = {"say-hello": 41, "other": 40, "none": sys.maxsize}
        called = ("say_hello", "built-in", "none", "other")
        assert versions_read(made.metadata.annotations, called) == versions
        plain = await tasks.submit(task_of({"tool": "built-in"}, "ann"), "ann")
        assert TOOL_VERSIONS_ANNOTATION not in plain.metadata.annotations


@pytest.mark.parametrize(
    ("text", "versions"),
    [
        ("", {}),
        ("a=1", {"a": 1}),
        ("a=1,b-c=22", {"a": 1, "b-c": 22}),
        ("a=,b-c=x", {}),
        ("a=-1,b-c=²", {}),
        ("=3,a", {}),
        ("a=" + "9" * 21 + ",b-c=2", {"b-c": 2}),
        ("z=1,y=2,x=3,a=4", {}),
        ("other=1", {}),
        ("x=1," * 50_000, {}),
    ],
)
def test_S6_what_is_no_version_of_a_tool_counts_for_nothing(text: str, versions: dict[str, int]) -> None:
    assert versions_read({TOOL_VERSIONS_ANNOTATION: text}, ["a", "b_c"]) == versions


async def test_B13_an_observer_that_fails_takes_nothing_from_the_others() -> None:
    class Failing(_Observer):
        def ended(self, _task: AgentTask, _caller: str, _seconds: float) -> None:
            raise ValueError("nobody thought of this")

    server, observer = TaskServer(), _Observer()
    tasks = ClusterTasks(
        server,
        server,
        Namespaces("team", {}),
        catalogue_of=lambda _caller: Catalogue.builtin(),
        runners=Runners(server, "corral"),
        observers=[Failing(), observer],
        waiting_tasks=100,
        waiting_tasks_each=100,
    )
    await tasks.start()
    try:
        for _ in range(2):
            made = await tasks.submit(_asked(), "ann")
            server.end(made.metadata.uid)
            ended = await tasks.wait(made.metadata.uid or "", "ann", 60)
            assert ended is not None
            assert ended.reason is Reason.COMPLETED
        assert len(observer.told) == 2
    finally:
        await tasks.close()
