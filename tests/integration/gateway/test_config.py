"""``corral config``, by the real command."""

import json
import os
import subprocess
import sys
from pathlib import Path

CORRAL = Path(sys.executable).with_name("corral")


def config(directory: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if name not in {"HOST", "PORT"}} | variables
    return subprocess.run(
        [CORRAL, "config", *arguments], cwd=directory, env=env, capture_output=True, text=True, check=False
    )


def test_A4_every_setting_says_where_its_value_comes_from(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PORT=9000\nMAX_REQUEST_SIZE=2048\n")
    found = {one["variable"]: one for one in json.loads(config(tmp_path, "-o", "json", PORT="9001").stdout)}
    assert found["PORT"] == {"variable": "PORT", "value": "9001", "source": "environment"}
    assert found["MAX_REQUEST_SIZE"]["source"] == ".env"
    assert found["HOST"] == {"variable": "HOST", "value": "127.0.0.1", "source": "default"}
    table = config(tmp_path, PORT="9001")
    assert table.stderr == ""
    (line,) = (line for line in table.stdout.splitlines() if line.startswith("MAX_REQUEST_SIZE"))
    assert line.split()[:3] == ["MAX_REQUEST_SIZE", "2048", ".env"]


def test_A4_a_line_that_nobody_reads_is_told_of(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("LLM_API_KEY=secret-word\nMAX_REQEST_SIZE=2048\nOWN=1\n")
    ended = config(tmp_path)
    assert ended.returncode == 0
    assert ".env: LLM_API_KEY: not read yet" in ended.stderr
    assert ".env: MAX_REQEST_SIZE: did you mean MAX_REQUEST_SIZE?" in ended.stderr
    assert ".env: OWN: no setting has this name" in ended.stderr
    assert "secret-word" not in ended.stdout + ended.stderr


def test_A4_no_value_shows_a_password(tmp_path: Path) -> None:
    shown = config(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT="http://collector:hunter2@127.0.0.1:4318").stdout
    assert "127.0.0.1:4318" in shown
    assert "hunter2" not in shown


def test_A4_what_is_not_set_is_not_said_to_be(tmp_path: Path) -> None:
    variables = {"CORRAL_RATE_LIMIT_URL": "redis://127.0.0.1:6379"}
    for given, shown in (({}, ""), (variables, "(set)")):
        found = {one["variable"]: one for one in json.loads(config(tmp_path, "-o", "json", **given).stdout)}
        assert found["CORRAL_RATE_LIMIT_URL"]["value"] == shown


def test_A4_a_wrong_value_is_told_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("AGENT_API_KEY=your-secret-api-key-here\nWORKSPACE_ROOT=./workspace\n")
    ended = config(tmp_path)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "error: AGENT_API_KEY: a key has at least 32 characters" in ended.stderr
    assert (
        "error: WORKSPACE_ROOT: workspace is not a directory; `mkdir -p workspace` makes it" in ended.stderr
    )
