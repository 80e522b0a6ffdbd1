"""A workspace to work in: an empty directory that is also the working directory, as in a sandbox."""

from pathlib import Path

import pytest

from corral_runner.interface import ToolContext


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The workspace; beside it lies ``secret.txt``, which no tool may reach."""
    (tmp_path / "secret.txt").write_text("secret")
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    monkeypatch.chdir(workspace)
    return workspace


@pytest.fixture
def context(workspace: Path) -> ToolContext:
    return ToolContext(str(workspace))
