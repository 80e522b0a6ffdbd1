"""S6, M5: tools that callers register in a cluster, on an API server in memory: the routes are those of one machine."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from corral.cluster.port import TOOLS, Json, Refused, Unavailable
from corral_gateway.identity.caller import Caller
from corral_gateway.identity.roles import SCOPES, Role
from corral_gateway.tasks.cluster import tools as cluster_tools
from corral_gateway.tools import pruning
from eventually import eventually_async
from integration.gateway.running import Gateway, gateway_before, problem
from integration.gateway.test_tool_registration import tool
from unit.operator.api_server import ApiServer

CALLER = "corral.dev/caller"


@pytest.fixture
def server() -> ApiServer:
    return ApiServer()


@pytest.fixture
async def gateway(server: ApiServer, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with gateway_before(server, tmp_path) as running:
        yield running


def stored(server: ApiServer, name: str, namespace: str = "team") -> Json:
    return server.objects["tools", namespace, name]


def applied(server: ApiServer, name: str, **metadata: Any) -> Json:
    """Make a tool as kubectl does."""
    made = tool(name)
    return server.put(TOOLS, {**made, "metadata": {"name": name, "namespace": "team", **metadata}})


def of_caller(answer: httpx.Response) -> Any:
    """Return a tool without what the API server adds."""
    body = answer.json()
    added = ("namespace", "uid", "resourceVersion", "creationTimestamp", "generation")
    kept = {name: value for name, value in body["metadata"].items() if name not in added}
    return {**body, "metadata": kept}


async def test_S6_a_tool_is_registered_found_replaced_and_taken_out(
    server: ApiServer, gateway: Gateway
) -> None:
    async with (
        await gateway.caller("admin", Role.TOOL_ADMIN) as admin,
        await gateway.caller("other", Role.RUNNER) as other,
    ):
        made = await admin.post("/v1/tools", json=tool("say_hello"))
        assert (made.status_code, made.headers["location"]) == (201, "/v1/tools/say_hello")
        # The next request knows it, by either spelling, and is shown the one that was registered.
        assert (await other.get("/v1/tools/say-hello")).json() == made.json()
        assert of_caller(made)["metadata"] == {"name": "say_hello"}
        assert "say_hello" in (await other.get("/tools/list")).json()
        body = stored(server, "say-hello")
        assert body["metadata"]["labels"] == {CALLER: "admin"}
        assert body["spec"]["run"] == made.json()["spec"]["run"]

        assert problem(await admin.post("/v1/tools", json=tool("say-hello"))) == (409, "ToolExists")
        louder = tool("say_hello", "def main(name):\n    return name.upper()")
        replaced = await admin.put("/v1/tools/say_hello", json=louder)
        assert (replaced.status_code, replaced.json()["metadata"]["uid"]) == (200, body["metadata"]["uid"])
        assert (await other.get("/v1/tools/say_hello")).json()["spec"]["run"] == louder["spec"]["run"]
        assert (await admin.put("/v1/tools/second", json=tool("second"))).status_code == 201

        assert (await admin.delete("/v1/tools/say-hello")).status_code == 204
        assert problem(await admin.delete("/v1/tools/say_hello")) == (404, "ToolNotFound")
        assert problem(await other.get("/v1/tools/say_hello")) == (404, "ToolNotFound")
        history = (await admin.get("/v1/tools/say_hello/history")).json()["items"]
        assert [(one["caller"], one["tool"] and one["tool"]["spec"]["run"]) for one in history] == [
            ("admin", None),
            ("admin", louder["spec"]["run"]),
            ("admin", made.json()["spec"]["run"]),
        ]
        assert problem(await admin.get("/v1/tools/never/history")) == (404, "ToolNotFound")


async def test_S6_who_may_not_registers_nothing_and_asks_the_cluster_nothing(
    server: ApiServer, gateway: Gateway
) -> None:
    for role in (Role.VIEWER, Role.RUNNER, Role.AUDITOR):
        async with await gateway.caller(role, role) as client:
            for request in (
                client.post("/v1/tools", json=tool("mine")),
                client.put("/v1/tools/mine", json=tool("mine")),
                client.delete("/v1/tools/mine"),
                client.get("/v1/tools/mine/history"),
            ):
                assert problem(await request) == (403, "Forbidden")
    assert {verb for verb, plural, _ in server.requests if plural == "tools"} <= {"list", "watch"}


@pytest.mark.parametrize(
    "name", ["%3Fx", "mine%3Fx", "%2E", "%2E%2E", "..%252F..%252Ftools", "%23", "MINE", "-", "a\u0301"]
)
async def test_S6_what_no_tool_can_be_called_is_asked_of_no_cluster(
    server: ApiServer, gateway: Gateway, name: str
) -> None:
    applied(server, "mine")
    async with await gateway.caller("admin", Role.ADMIN) as admin:
        assert problem(await admin.delete(f"/v1/tools/{name}")) in {
            (404, "ToolNotFound"),
            (404, "NotFound"),
            (405, "MethodNotAllowed"),
        }
    assert not server.asked("get", "tools")
    assert stored(server, "mine")


async def test_S6_what_ships_with_corral_is_replaced_by_nobody(server: ApiServer, gateway: Gateway) -> None:
    async with await gateway.caller("admin", Role.ADMIN) as admin:
        for name in ("calculator", "read_file", "read-file"):
            assert problem(await admin.post("/v1/tools", json=tool(name))) == (409, "ToolBuiltIn")
            assert problem(await admin.put(f"/v1/tools/{name}", json=tool(name))) == (409, "ToolBuiltIn")
            assert problem(await admin.delete(f"/v1/tools/{name}")) == (409, "ToolBuiltIn")
    assert server.objects == {}


@pytest.mark.parametrize(
    ("labels", "manager"), [({"app.kubernetes.io/managed-by": "Helm"}, "Helm"), ({}, "kubectl")]
)
async def test_M5_what_kubectl_or_helm_made_only_an_admin_replaces(
    server: ApiServer, gateway: Gateway, labels: dict[str, str], manager: str
) -> None:
    # The annotations that the gateway writes give nobody a right.
    before = applied(server, "theirs", labels=labels, annotations={"corral.dev/caller-name": "tool-admin"})
    async with (
        await gateway.caller("tool-admin", Role.TOOL_ADMIN) as caller,
        await gateway.caller("admin", Role.ADMIN) as admin,
    ):
        await eventually_async(lambda: "theirs" in gateway.services.tools.catalogue("admin"))
        for request in (
            caller.put("/v1/tools/theirs", json=tool("theirs")),
            caller.delete("/v1/tools/theirs"),
        ):
            refused = await request
            assert problem(refused) == (409, "ToolManagedElsewhere")
            assert manager in refused.json()["detail"]
        assert problem(await caller.post("/v1/tools", json=tool("theirs"))) == (409, "ToolExists")
        assert stored(server, "theirs") == before

        other = tool("theirs", "def main(): return 2")
        assert (await admin.put("/v1/tools/theirs", json=other)).status_code == 200
        # It stays theirs.
        assert stored(server, "theirs")["metadata"]["labels"] == labels
        assert stored(server, "theirs")["spec"]["run"] == other["spec"]["run"]
        assert problem(await caller.delete("/v1/tools/theirs")) == (409, "ToolManagedElsewhere")
        assert (await admin.delete("/v1/tools/theirs")).status_code == 204


async def test_M5_who_may_the_same_with_kubectl_may_replace_what_kubectl_made(
    server: ApiServer, gateway: Gateway
) -> None:
    applied(server, "theirs")
    registry = gateway.services.registry
    assert registry is not None
    somebody = Caller(
        "system:serviceaccount:team:bot", SCOPES[Role.TOOL_ADMIN], "kubernetes:bot", "kubernetes"
    )
    assert await registry.delete("theirs", somebody)


async def test_M5_what_a_caller_sends_marks_no_tool_as_anothers(server: ApiServer, gateway: Gateway) -> None:
    forged = tool("mine")
    forged["metadata"] |= {
        "labels": {CALLER: "bob", "team": "blue"},
        "annotations": {"corral.dev/tool-name": "calculator", "note": "x"},
        "namespace": "kube-system",
        "uid": "somebodys",
        "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "y"}],
        "finalizers": ["example.com/never"],
    }
    async with await gateway.caller("ann", Role.TOOL_ADMIN) as ann:
        made = await ann.post("/v1/tools", json=forged)
        assert made.status_code == 201, made.text
        assert of_caller(made)["metadata"] == {
            "name": "mine",
            "labels": {"team": "blue"},
            "annotations": {"note": "x"},
        }
    metadata = stored(server, "mine")["metadata"]
    assert metadata["labels"] == {CALLER: "ann", "team": "blue"}
    assert metadata["uid"] != "somebodys"
    assert not {"ownerReferences", "finalizers"} & set(metadata)
    # Nor does what somebody wrote with kubectl give a tool another's name.
    annotations = {"corral.dev/tool-name": "calculator"}
    applied(server, "odd", annotations=annotations)
    async with await gateway.caller("ann", Role.TOOL_ADMIN) as ann:
        await eventually_async(lambda: "odd" in gateway.services.tools.catalogue("ann"))
        assert (await ann.get("/v1/tools/odd")).json()["metadata"]["name"] == "odd"


async def test_S6_a_version_that_is_named_is_the_only_one_that_is_replaced(
    server: ApiServer, gateway: Gateway
) -> None:
    async with await gateway.caller("admin", Role.TOOL_ADMIN) as admin:
        first = (await admin.post("/v1/tools", json=tool("mine"))).json()
        second = await admin.put("/v1/tools/mine", json=first)
        assert second.status_code == 200
        assert problem(await admin.put("/v1/tools/mine", json=first)) == (409, "ToolChanged")
        assert (await admin.put("/v1/tools/mine", json=second.json())).status_code == 200
        await admin.delete("/v1/tools/mine")
        assert problem(await admin.put("/v1/tools/mine", json=first)) == (409, "ToolChanged")
    assert ("tools", "team", "mine") not in server.objects


async def test_S6_of_many_at_once_one_registers_a_name_and_all_replace_it(gateway: Gateway) -> None:
    async with await gateway.caller("admin", Role.TOOL_ADMIN) as admin:
        answers = await asyncio.gather(*(admin.post("/v1/tools", json=tool("mine")) for _ in range(8)))
        assert sorted(answer.status_code for answer in answers) == [201] + [409] * 7
        answers = await asyncio.gather(*(admin.put("/v1/tools/mine", json=tool("mine")) for _ in range(8)))
        assert {answer.status_code for answer in answers} == {200}
        assert len((await admin.get("/v1/tools/mine/history")).json()["items"]) == 9


async def test_M5_callers_of_other_namespaces_have_their_own(server: ApiServer, tmp_path: Path) -> None:
    where = {"CORRAL_CALLER_NAMESPACES": {"bob": "blue", "eve": "nowhere-watched"}}
    watched = {"CORRAL_WATCH_NAMESPACES": "team,blue"}
    async with (
        gateway_before(server, tmp_path, **where, **watched) as gateway,
        await gateway.caller("ann", Role.TOOL_ADMIN) as ann,
        await gateway.caller("bob", Role.TOOL_ADMIN) as bob,
        await gateway.caller("eve", Role.ADMIN) as eve,
    ):
        assert (await ann.post("/v1/tools", json=tool("mine"))).status_code == 201
        assert (await bob.post("/v1/tools", json=tool("mine"))).status_code == 201
        assert (await bob.delete("/v1/tools/mine")).status_code == 204
        assert (await ann.get("/v1/tools/mine")).status_code == 200
        assert len((await ann.get("/v1/tools/mine/history")).json()["items"]) == 1
        assert len((await bob.get("/v1/tools/mine/history")).json()["items"]) == 2
        assert problem(await eve.post("/v1/tools", json=tool("mine"))) == (403, "NoNamespace")
    assert {key[1] for key in server.objects} == {"team"}


_DENIED = (
    "tools \"mine\" is forbidden: ValidatingAdmissionPolicy 'corral-tools' with binding 'b' denied request: "
    "spec.run.command.image: x:1 is not allowed"
)


@pytest.mark.parametrize(
    ("error", "told", "path"),
    [
        (Refused(422, "Invalid", _DENIED, {}), (403, "AdmissionRefused"), "spec.run.command.image"),
        (
            Refused(422, "Invalid", "no", {"details": {"causes": [{"field": "spec.tags", "message": "m"}]}}),
            (422, "InvalidSpec"),
            "spec.tags",
        ),
        (Refused(403, "Forbidden", "exceeded quota: tools", {}), (429, "QuotaExceeded"), None),
        (Refused(403, "Forbidden", "User cannot create", {}), (503, "ClusterRefused"), None),
        (Unavailable("away"), (503, "ClusterUnavailable"), None),
    ],
    ids=["admission", "schema", "quota", "rights", "away"],
)
async def test_A9_what_the_cluster_refuses_is_told_with_its_field(
    server: ApiServer, gateway: Gateway, error: Exception, told: tuple[int, str], path: str | None
) -> None:
    async def refuse(verb: str, plural: str, _name: str) -> None:
        if plural == "tools" and verb in {"create", "update", "delete"}:
            raise error

    async with await gateway.caller("admin", Role.TOOL_ADMIN) as admin:
        await admin.post("/v1/tools", json=tool("there"))
        server.before = refuse
        for request in (
            admin.post("/v1/tools", json=tool("mine")),
            admin.put("/v1/tools/mine", json=tool("mine")),
            admin.put("/v1/tools/there", json=tool("there")),
            admin.delete("/v1/tools/there"),
        ):
            answer = await request
            assert problem(answer) == told
            assert [one["path"] for one in answer.json()["problems"]] == ([] if path is None else [path])
        assert (await admin.get("/v1/tools/there")).status_code == 200


async def test_B13_while_the_watch_is_away_what_was_written_is_known_all_the_same(
    server: ApiServer, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_tools, "_TOLD_SECONDS", 0.05)

    async def no_watch(verb: str, _plural: str, _name: str) -> None:
        if verb in {"watch", "list"}:
            raise Unavailable("away")

    async with await gateway.caller("admin", Role.TOOL_ADMIN) as admin:
        await eventually_async(lambda: server.watches == 2)
        server.before = no_watch
        server.cut_watches()
        await eventually_async(lambda: server.watches == 0)
        assert (await admin.post("/v1/tools", json=tool("mine"))).status_code == 201
        assert (await admin.get("/v1/tools/mine")).status_code == 200
        assert (await admin.delete("/v1/tools/mine")).status_code == 204
        assert (await admin.get("/v1/tools/mine")).status_code == 404
        server.before = None
        # What the watch tells late brings nothing back.
        await eventually_async(lambda: server.watches == 2)
        assert (await admin.get("/v1/tools/mine")).status_code == 404


async def test_S6_registration_can_be_switched_off(server: ApiServer, tmp_path: Path) -> None:
    off = {"CORRAL_TOOL_REGISTRATION": False}
    async with (
        gateway_before(server, tmp_path, **off) as gateway,
        await gateway.caller("admin", Role.ADMIN) as admin,
    ):
        for request in (
            admin.post("/v1/tools", json=tool("mine")),
            admin.delete("/v1/tools/mine"),
            admin.get("/v1/tools/mine/history"),
        ):
            answer = await request
            assert problem(answer) == (422, "Unsupported")
            assert "CORRAL_TOOL_REGISTRATION" in answer.json()["remedy"]
    assert server.objects == {}


async def test_B4_a_caller_registers_so_many_tools_and_takes_no_place_from_another(
    server: ApiServer, tmp_path: Path
) -> None:
    async with (
        gateway_before(server, tmp_path, CORRAL_TOOLS_CALLER=2) as gateway,
        await gateway.caller("noisy", Role.TOOL_ADMIN) as noisy,
        await gateway.caller("quiet", Role.TOOL_ADMIN) as quiet,
    ):
        answers = await asyncio.gather(*(noisy.post("/v1/tools", json=tool(f"t-{n}")) for n in range(5)))
        assert sorted(answer.status_code for answer in answers) == [201, 201, 409, 409, 409]
        refused = next(answer for answer in answers if answer.status_code == 409)
        assert problem(refused) == (409, "TooManyTools")
        assert refused.json()["detail"].startswith("2 tools of yours are registered")
        assert (await quiet.post("/v1/tools", json=tool("theirs"))).status_code == 201
        assert problem(await noisy.put("/v1/tools/theirs", json=tool("theirs"))) == (409, "TooManyTools")
        own = next(answer.json()["metadata"]["name"] for answer in answers if answer.status_code == 201)
        assert (await noisy.put(f"/v1/tools/{own}", json=tool(own))).status_code == 200
        assert (await quiet.put(f"/v1/tools/{own}", json=tool(own))).status_code == 200
        assert stored(server, own)["metadata"]["labels"] == {CALLER: "quiet"}
        assert (await noisy.post("/v1/tools", json=tool("more"))).status_code == 201
        assert problem(await quiet.post("/v1/tools", json=tool("last"))) == (409, "TooManyTools")
        assert (await quiet.delete("/v1/tools/theirs")).status_code == 204
        assert (await quiet.post("/v1/tools", json=tool("last"))).status_code == 201


async def test_S6_the_last_versions_of_a_tool_are_kept_and_names_that_went_long_ago_are_forgotten(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "_MOST_GONE", 2)
    async with (
        gateway_before(server, tmp_path, CORRAL_TOOL_HISTORY=3) as gateway,
        await gateway.caller("admin", Role.TOOL_ADMIN) as admin,
    ):
        for number in range(6):
            await admin.put("/v1/tools/mine", json=tool("mine", version=f"1.0.{number}"))
        items = (await admin.get("/v1/tools/mine/history")).json()["items"]
        assert [one["tool"]["spec"]["version"] for one in items] == ["1.0.5", "1.0.4", "1.0.3"]
        for name in ("a", "b", "c"):
            await admin.post("/v1/tools", json=tool(name))
            await admin.delete(f"/v1/tools/{name}")
        known = [
            (await admin.get(f"/v1/tools/{name}/history")).status_code for name in ("a", "b", "c", "mine")
        ]
        assert known == [404, 200, 200, 200]
