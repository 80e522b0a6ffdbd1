"""What of the host's a caller's task can have."""

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from corral.api import AgentTask, PermissionLevel
from corral.client import AsyncClient, SecretMissingError
from corral_gateway.settings import Settings
from corral_gateway.tasks.host_access import CallerSecrets
from integration.gateway.running import Gateway, gateway_in, problem

LIST = {"tool": "list_dir", "arguments": {}}
SHOW = {"tool": "shell", "arguments": {"command": "printf %s $TOKEN"}}


def directory_of_nobody(path: Path) -> Path:
    """Make a directory that sandboxes may have: none of root's."""
    path.mkdir()
    if os.getuid() == 0:
        os.chown(path, 65534, 65534)
    return path


def wants_host(path: Path) -> dict[str, object]:
    return {**LIST, "workspace": {"hostPath": str(path), "readOnly": True}}


async def test_A7_no_caller_names_a_directory_of_the_host(gateway: Gateway, tmp_path: Path) -> None:
    directory_of_nobody(tmp_path / "private")
    async with await gateway.caller() as client:
        answer = await client.post("/v1/tasks?wait=60s", json=wants_host(tmp_path / "private"))
        assert problem(answer) == (403, "PermissionDenied")
        assert answer.json()["problems"][0]["path"] == "spec.workspace.hostPath"
        assert (await client.get("/v1/tasks")).json()["items"] == []


async def test_A7_without_the_guards_and_the_policy_a_directory_of_the_host_would_be_seen(
    tmp_path: Path,
) -> None:
    (directory_of_nobody(tmp_path / "private") / "letter").touch()
    async with (
        AsyncClient(waiting=0, backend="embedded") as laptop,
        gateway_in(tmp_path, client=laptop) as gateway,
        await gateway.caller() as client,
    ):
        gateway.services.tasks._guards = ()
        answer = await client.post("/v1/tasks?wait=60s", json=wants_host(tmp_path / "private"))
        assert "letter" in answer.text


async def test_A4_the_workspace_root_is_where_tasks_work_and_nobody_is_told_where_it_is(
    tmp_path: Path,
) -> None:
    root = directory_of_nobody(tmp_path / "files")
    (root / "notes.txt").write_text("one\n")
    async with gateway_in(tmp_path, workspace_root=root) as gateway, await gateway.caller() as client:
        answer = await client.post("/tools/execute", json={"tool_name": "list_dir"})
        assert [entry["name"] for entry in answer.json()["output"]["entries"]] == ["notes.txt"]
        (root / "away").symlink_to("/")
        assert problem(await client.post("/v1/tasks", json=wants_host(root / "away")))[0] == 403
        fresh = await client.post("/v1/tasks?wait=60s", json={**LIST, "workspace": {}})
        assert fresh.json()["status"]["executions"][0]["result"]["entries"] == []
        assert str(root) not in (await client.get("/v1/tasks")).text


async def test_A4_blocked_permissions_are_read_as_a_list_and_hold(tmp_path: Path) -> None:
    async with (
        gateway_in(tmp_path, blocked_permissions="network, execute") as gateway,
        await gateway.caller() as client,
    ):
        assert problem(await client.post("/v1/tasks?wait=60s", json=SHOW)) == (403, "PermissionDenied")
        assert (await client.post("/v1/tasks?wait=60s", json=LIST)).json()["status"]["reason"] == "Completed"


def test_A4_settings_that_are_lists_or_directories_are_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BLOCKED_PERMISSIONS", "network,execute")
    monkeypatch.setenv("WORKSPACE_ROOT", str(tmp_path))
    settings = Settings(_env_file=None)
    assert settings.blocked_permissions == {PermissionLevel.NETWORK, PermissionLevel.EXECUTE}
    assert settings.workspace_root == tmp_path.resolve()
    monkeypatch.setenv("BLOCKED_PERMISSIONS", "fly")
    monkeypatch.setenv("WORKSPACE_ROOT", str(tmp_path / "nowhere"))
    with pytest.raises(ValidationError, match=r"(?s)blocked_permissions.*workspace_root"):
        Settings(_env_file=None)


async def test_B11_a_caller_has_their_own_secrets_alone(tmp_path: Path) -> None:
    for caller in ("ann", "bob"):
        (tmp_path / "secrets" / caller / "login").mkdir(parents=True)
        (tmp_path / "secrets" / caller / "login" / "token").write_text(f"of-{caller}\n")
    wants = {**SHOW, "secretRefs": [{"env": "TOKEN", "name": "login", "key": "token"}]}
    async with gateway_in(tmp_path, CORRAL_SECRETS=tmp_path / "secrets") as gateway:
        for caller in ("ann", "bob"):
            async with await gateway.caller(caller) as client:
                ended = (await client.post("/v1/tasks?wait=60s", json=wants)).json()
                assert AgentTask.model_validate(ended).stdout == f"of-{caller}"
        async with await gateway.caller("eve") as client:
            ended = (await client.post("/v1/tasks?wait=60s", json=wants)).json()
            assert ended["status"]["reason"] == "InvalidSpec"
            assert str(tmp_path) not in str(ended)


@pytest.mark.parametrize("caller", ["", ".", "..", "../bob", "ann/../bob", "bob/", "bob\0"])
def test_B11_no_callers_name_leads_to_anothers_secrets(tmp_path: Path, caller: str) -> None:
    (tmp_path / "bob" / "login").mkdir(parents=True)
    (tmp_path / "bob" / "login" / "token").write_text("of-bob")
    (tmp_path / "login").mkdir()
    (tmp_path / "login" / "token").write_text("of-all")
    assert CallerSecrets(tmp_path, "bob").get("login", "token") == "of-bob"
    with pytest.raises(SecretMissingError):
        CallerSecrets(tmp_path, caller).get("login", "token")
