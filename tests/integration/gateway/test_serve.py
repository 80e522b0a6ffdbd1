"""``corral serve`` and ``corral keys``, by the real command and over a real socket."""

import os
import re
import socket
import subprocess
from pathlib import Path

import httpx
import pytest

from corral_gateway.settings import Settings, written
from integration.gateway.routes import ROUTES
from integration.gateway.running import CALCULATE, SLEEP
from integration.gateway.serving import CORRAL, corral, serving


def test_M5_the_first_start_prints_an_admins_key_and_no_other_start_does(tmp_path: Path) -> None:
    with serving(tmp_path) as (url, log, _):
        (key,) = re.findall(r"corral_[0-9a-f]{12}_\S{43}", log.read_text())
        headers = {"X-API-Key": key}
        answer = httpx.post(
            f"{url}/v1/tasks", params={"wait": "60s"}, json=CALCULATE, headers=headers, timeout=90
        )
        assert answer.json()["status"]["reason"] == "Completed"
    with serving(tmp_path) as (url, log, _):
        assert "corral_" not in log.read_text()
        assert httpx.get(f"{url}/v1/tasks", headers=headers, timeout=60).json()["items"][0] == answer.json()
    assert (tmp_path / "data").stat().st_mode & 0o077 == 0


def test_M5_keys_are_made_listed_and_revoked_while_the_gateway_serves(tmp_path: Path) -> None:
    with serving(tmp_path) as (url, _, _):
        made = corral(tmp_path, "keys", "create", "ci-bot", "--role", "viewer", "--days", "90")
        key = made.stdout.strip()
        headers = {"X-API-Key": key}
        assert httpx.get(f"{url}/v1/tools", headers=headers, timeout=60).status_code == 200
        assert httpx.post(f"{url}/v1/tasks", json=CALCULATE, headers=headers, timeout=60).status_code == 403
        prefix = key.split("_")[1]
        assert re.search(
            rf"^{prefix}  viewer +ci-bot  until ", corral(tmp_path, "keys", "list").stdout, re.MULTILINE
        )
        assert corral(tmp_path, "keys", "revoke", prefix).returncode == 0
        assert httpx.get(f"{url}/v1/tools", headers=headers, timeout=60).status_code == 401
        assert key not in corral(tmp_path, "keys", "list").stdout
    again = corral(tmp_path, "keys", "revoke", prefix)
    assert (again.returncode, again.stdout) == (2, "")
    assert f"there is no key {prefix}" in again.stderr
    assert corral(tmp_path, "keys", "create", "a b").returncode == 2


def test_B13_a_gateway_that_is_told_to_end_writes_how_its_tasks_ended(tmp_path: Path) -> None:
    with serving(tmp_path) as (url, log, _):
        (key,) = re.findall(r"corral_[0-9a-f]{12}_\S{43}", log.read_text())
        headers = {"X-API-Key": key}
        assert httpx.post(f"{url}/v1/tasks", json=SLEEP, headers=headers, timeout=60).status_code == 202
    with serving(tmp_path) as (url, _, _):
        (task,) = httpx.get(f"{url}/v1/tasks", headers=headers, timeout=60).json()["items"]
    assert task["status"]["reason"] == "Cancelled", task["status"]["message"]


def test_M9_metrics_have_a_port_of_their_own_and_need_no_key(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        taken = subprocess.run(
            [CORRAL, "serve"],
            cwd=tmp_path,
            env={**os.environ, "PORT": "0", "CORRAL_METRICS_PORT": str(port)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert taken.returncode == 2
        assert f"CORRAL_METRICS_PORT: {port} cannot be listened on" in taken.stderr
    with serving(tmp_path, port) as (url, _, _):
        assert "agent_core_tasks" in httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=60).text
        assert httpx.get(f"{url}/metrics", timeout=60).status_code == 404


def test_M5_a_setting_that_is_wrong_is_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PORT=high\n")
    ended = corral(tmp_path, "serve")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "PORT" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_M5_the_page_names_every_setting_with_its_default_and_every_route() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs/gateway.md").read_text(encoding="utf-8")
    for name, field in Settings.model_fields.items():
        variable = str(field.alias or name).upper()
        assert f"`{variable}`" in page, variable
        default = written(field.default)
        assert not default or f"`{default}`" in page, f"{variable}: {default}"
    for _, path in ROUTES:
        assert path.replace("{uid}", "{id}") in page, path


def test_M5_keys_are_narrowed_dated_and_rotated_by_the_command(tmp_path: Path) -> None:
    made = corral(
        tmp_path,
        *("keys", "create", "reporter", "--scope", "tasks:read", "--until", "2999-01-31"),
        *("--grant", "network", "--tool", "calculator"),
    )
    prefix = made.stdout.split("_")[1]
    again = corral(tmp_path, "keys", "rotate", prefix, "--overlap", "1h")
    assert again.stdout.startswith(f"corral_{prefix}_")
    assert again.stdout != made.stdout
    listed = corral(tmp_path, "keys", "list").stdout
    assert listed.startswith("PREFIX ")
    for words in (
        "until 2999-01-31 00:00Z",
        "only tasks:read",
        "granted network",
        "tools calculator",
        "rotated, old secret until ",
        "never used",
    ):
        assert words in listed
    for arguments, words in (
        (["keys", "create", "x", "--scope", "audit:read"], "the role runner has no audit:read"),
        (["keys", "create", "x", "--until", "1999-01-01"], "is over"),
        (["keys", "create", "x", "--until", "soon"], "is no time"),
        (["keys", "create", "x", "--until", "2999-01-01", "--days", "1"], "give one of the two"),
        (["keys", "create", "jwt.corp.alice"], "belong to callers without API keys"),
        (["keys", "rotate", prefix, "--overlap", "soon"], "--overlap"),
        (["keys", "rotate", "0" * 12], "there is no key"),
    ):
        refused = corral(tmp_path, *arguments)
        assert (refused.returncode, refused.stdout) == (2, ""), arguments
        assert words in " ".join(refused.stderr.split()), refused.stderr
    assert corral(tmp_path, "keys", "rotate", prefix, "--overlap", "0s").returncode == 0
    assert "old secret" not in corral(tmp_path, "keys", "list").stdout


def test_M5_where_output_is_kept_no_key_is_printed(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("CORRAL_FIRST_KEY=false\n")
    with serving(tmp_path) as (url, log, _):
        key = corral(tmp_path, "keys", "create", "admin", "--role", "admin").stdout.strip()
        assert httpx.get(f"{url}/v1/tools", headers={"X-API-Key": key}, timeout=60).status_code == 200
        assert re.search(r"corral_[0-9a-f]{12}_", log.read_text()) is None


@pytest.mark.parametrize(
    "words", [("keys", "list"), ("audit", "list"), ("audit", "verify"), ("audit", "export")], ids=" ".join
)
def test_M5_where_no_gateway_keeps_its_data_nothing_is_looked_up_and_nothing_made(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    ended = corral(tmp_path, *words)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "CORRAL_DATA_DIR: no gateway keeps its data in" in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_M5_a_port_that_is_taken_is_refused_by_its_setting_before_anything_is_made(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        (tmp_path / ".env").write_text(f"PORT={taken.getsockname()[1]}\n")
        ended = corral(tmp_path, "serve")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "HOST, PORT: 127.0.0.1:" in ended.stderr
    assert "cannot be listened on: Address already in use" in ended.stderr
    assert [path.name for path in tmp_path.iterdir()] == [".env"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root could make sandboxes for root")
def test_A7_a_workspace_of_root_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "workspace").mkdir()
    (tmp_path / ".env").write_text("PORT=0\nWORKSPACE_ROOT=./workspace\n")
    ended = corral(tmp_path, "serve")
    assert ended.returncode == 2
    assert "WORKSPACE_ROOT" in ended.stderr
    assert "belongs to root" in ended.stderr


@pytest.mark.parametrize("where", ["/proc/1/data", "/dev/null/data"])
def test_M5_a_directory_that_cannot_be_made_is_refused_by_its_setting(tmp_path: Path, where: str) -> None:
    (tmp_path / ".env").write_text(f"CORRAL_DATA_DIR={where}\n")
    ended = corral(tmp_path, "keys", "create", "ci-bot")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert f"CORRAL_DATA_DIR: {where} cannot be made" in ended.stderr
