"""M5: terms of keys: narrower than a role, granted or held to tools, rotated, given by the environment, flooded."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError
from sqlalchemy import event
from sqlalchemy import text as sql

from corral.api import PermissionLevel
from corral_gateway.identity import key_cache
from corral_gateway.identity.api_key import make_key, rotated
from corral_gateway.identity.caller import Reach
from corral_gateway.identity.roles import Role, Scope
from corral_gateway.settings import Settings
from integration.gateway.running import CALCULATE, Gateway, gateway_in, problem

LIST = {"tool": "list_dir", "arguments": {}}
SHELL = {"tool": "shell", "arguments": {"command": "true"}}


async def test_M5_who_calls_can_ask_what_for(gateway: Gateway) -> None:
    end = datetime.now(UTC) + timedelta(days=1)
    key = await gateway.key("someone", expires_at=end)
    async with gateway.http(key) as client:
        assert (await client.get("/v1/whoami")).json() == {
            "name": "someone",
            "role": "runner",
            "scopes": ["tasks:read", "tasks:run", "tools:read"],
            "credential": "key",
            "credentialId": f"key:{key.split('_')[1]}",
            "expiresAt": end.isoformat().replace("+00:00", "Z"),
            "grantedPermissions": [],
        }
    narrow = await gateway.key(
        "someone",
        narrowed_to=frozenset({Scope.TASKS_READ, Scope.KEYS_WRITE}),
        reach=Reach(frozenset({PermissionLevel.NETWORK}), frozenset({"calculator"})),
    )
    async with gateway.http(narrow) as client:
        body = (await client.get("/v1/whoami")).json()
        assert "role" not in body
        assert body["scopes"] == ["tasks:read"], "a scope beyond the role is none"
        assert (body["grantedPermissions"], body["tools"]) == (["network"], ["calculator"])


async def test_M5_a_key_that_is_held_to_tools_uses_no_other(gateway: Gateway) -> None:
    key = await gateway.key("someone", reach=Reach(tools=frozenset({"calculator", "list-dir"})))
    async with gateway.http(key) as client:
        for task in (CALCULATE, LIST):
            assert (await client.post("/v1/tasks?wait=60s", json=task)).json()["status"][
                "reason"
            ] == "Completed"
        chain = {"steps": [{"name": "one", **CALCULATE}, {"name": "two", **SHELL}]}
        for refused in (SHELL, chain, {"tool": "no-such-tool"}):
            answer = await client.post("/v1/tasks", json=refused)
            assert problem(answer) == (403, "PermissionDenied"), refused
        answer = await client.post(
            "/tools/execute", json={"tool_name": "shell", "parameters": {"command": "id"}}
        )
        assert problem(answer) == (403, "PermissionDenied")


async def test_A7_a_key_is_granted_what_is_blocked_for_others(tmp_path: Path) -> None:
    async with gateway_in(tmp_path, blocked_permissions="network,execute,system,admin") as gateway:
        async with await gateway.caller("plain") as plain:
            assert problem(await plain.post("/v1/tasks", json=SHELL)) == (403, "PermissionDenied")
        key = await gateway.key("trusted", reach=Reach(frozenset({PermissionLevel.EXECUTE})))
        async with gateway.http(key) as trusted:
            ended = (await trusted.post("/v1/tasks?wait=60s", json=SHELL)).json()
            assert ended["status"]["reason"] == "Completed", ended["status"]
            asks_network = {**SHELL, "network": {"mode": "allowlist", "allowedDomains": ["example.com"]}}
            assert problem(await trusted.post("/v1/tasks", json=asks_network)) == (403, "PermissionDenied")


async def test_M5_a_rotated_key_opens_with_both_secrets_until_the_overlap_is_over(gateway: Gateway) -> None:
    kept, old = make_key("someone", Role.RUNNER, datetime.now(UTC))
    await gateway.keys.add(kept)

    async def opens(text: str) -> bool:
        async with gateway.http(text) as client:
            return (await client.get("/v1/tools")).status_code == 200

    once, new = rotated(kept, datetime.now(UTC) + timedelta(hours=1))
    assert await gateway.keys.rotate(kept, once)
    assert (await opens(old), await opens(new)) == (True, True)
    assert not await gateway.keys.rotate(kept, rotated(kept, datetime.now(UTC))[0]), "it is another by now"
    twice, newest = rotated(once, datetime.now(UTC))
    assert await gateway.keys.rotate(once, twice)
    assert (await opens(old), await opens(new), await opens(newest)) == (False, False, True)
    assert await gateway.keys.revoke(kept.prefix, datetime.now(UTC))
    assert not await opens(newest)


async def test_M5_the_prefix_of_one_key_does_nothing_for_the_secret_of_another(gateway: Gateway) -> None:
    one, other = await gateway.key("one"), await gateway.key("other", Role.ADMIN)
    shared, _ = make_key("third", Role.ADMIN, datetime.now(UTC))
    await gateway.keys.add(
        replace(shared, prefix=f"{one.split('_')[1][:11]}{'0' if one[18] != '0' else '1'}")
    )
    for text in (
        f"corral_{one.split('_')[1]}_{other.split('_', 2)[2]}",
        f"corral_{other.split('_')[1]}_{one.split('_', 2)[2]}",
        f"corral_{shared.prefix}_{one.split('_', 2)[2]}",
        one[:30],
        one + other,
    ):
        async with gateway.http(text) as client:
            assert problem(await client.get("/v1/whoami")) == (401, "Unauthenticated"), text
    for text, name in ((one, "one"), (other, "other")):
        async with gateway.http(text) as client:
            assert (await client.get("/v1/whoami")).json()["name"] == name


async def test_M5_no_request_waits_for_the_database_to_know_a_key_and_no_wrong_key_costs_a_query(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Longer than a request takes on any machine: else a slow one would look for news with each.
    for pause in ("_STALE_SECONDS", "_UNKNOWN_SECONDS"):
        monkeypatch.setattr(key_cache, pause, 5.0)
    queries: list[str] = []
    database = gateway.keys._database
    event.listen(
        database._engine.sync_engine,
        "before_cursor_execute",
        lambda _c, _cursor, statement, *_: queries.append(statement),
    )
    async with await gateway.caller() as client:
        assert (await client.get("/v1/tools")).status_code == 200
        queries.clear()
        for _ in range(100):
            assert (await client.get("/v1/tools")).status_code == 200
        assert len([one for one in queries if "api_keys " in one]) == 0, queries
    async with gateway.http(f"corral_{'0' * 12}_{'x' * 43}") as stranger:
        queries.clear()
        for _ in range(100):
            assert (await stranger.get("/v1/tools")).status_code in {401, 429}
        # Of keys: what the audit writes meanwhile comes in more and smaller pieces where the machine is slow.
        assert len([one for one in queries if "api_keys" in one]) < 50, queries


async def test_M5_when_a_key_was_last_used_is_written_down(tmp_path: Path) -> None:
    async with gateway_in(tmp_path) as gateway, await gateway.caller() as client:
        assert (await client.get("/v1/tools")).status_code == 200
        assert (await gateway.keys.all())[0].last_used_at is None
    async with gateway_in(tmp_path) as gateway:
        (key,) = await gateway.keys.all()
        assert key.last_used_at is not None
        assert datetime.now(UTC) - key.last_used_at < timedelta(minutes=5)


async def test_M5_a_key_of_a_reserved_name_opens_nothing(gateway: Gateway) -> None:
    for name in ("jwt.corp.alice", "K8S.team.bot", "agent-api-key", "k8s_0"):
        async with await gateway.caller(name, Role.ADMIN) as client:
            assert problem(await client.get("/v1/tools")) == (401, "Unauthenticated"), name


async def test_M5_keys_that_cannot_be_read_are_not_guessed_at(gateway: Gateway) -> None:
    async with await gateway.caller() as client:
        assert (await client.get("/v1/tools")).status_code == 200
        async with gateway.keys._database.writing() as session:
            await session.execute(sql("ALTER TABLE api_keys_version RENAME TO away"))
        gateway.keys._tell()
        answer = await client.get("/v1/tools")
        assert problem(answer) == (503, "IdentityUnavailable")
        assert answer.headers["retry-after"] == "1"


async def test_A4_the_key_of_the_environment_is_a_runners(tmp_path: Path) -> None:
    key = "0123456789abcdef" * 2
    async with gateway_in(tmp_path, agent_api_key=key) as gateway:
        for headers in ({"X-API-Key": key}, {"Authorization": f"Bearer {key}"}):
            async with gateway.http() as client:
                body = (await client.get("/v1/whoami", headers=headers)).json()
                assert (body["name"], body["role"]) == ("agent-api-key", "runner")
                assert body["credentialId"] == "environment:AGENT_API_KEY"
        async with gateway.http(f"{key}0") as client:
            assert problem(await client.get("/v1/whoami")) == (401, "Unauthenticated")


@pytest.mark.parametrize("key", ["short", "your-secret-api-key-here"])
def test_A4_a_key_that_can_be_guessed_is_refused_by_name_and_not_repeated(
    monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("AGENT_API_KEY", key)
    with pytest.raises(ValidationError, match="agent_api_key") as refused:
        Settings(_env_file=None)
    assert key not in str(refused.value)
    monkeypatch.setenv("AGENT_API_KEY", "")
    assert Settings(_env_file=None).agent_api_key is None


async def test_M5_a_flood_of_wrong_keys_is_told_to_wait_and_keeps_nobody_else_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with gateway_in(tmp_path, CORRAL_FAILED_ATTEMPTS="5/minute") as gateway:
        async with gateway.http(f"corral_{'0' * 12}_{'x' * 43}") as stranger:
            answers = [problem(await stranger.get("/v1/tools")) for _ in range(8)]
            assert answers == [(401, "Unauthenticated")] * 5 + [(429, "TooManyFailedAttempts")] * 3
            assert 1 <= int((await stranger.get("/v1/tools")).headers["retry-after"]) <= 60
        async with await gateway.caller() as client, gateway.http() as nobody:
            assert (await client.get("/v1/tools")).status_code == 200
            assert problem(await nobody.get("/v1/tools")) == (401, "Unauthenticated")
    assert len([one for one in caplog.messages if "was refused" in one]) == 5
