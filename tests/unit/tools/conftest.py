"""A workspace to work in: an empty directory that is also the working directory, as in a sandbox."""

from collections.abc import Iterator
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


@pytest.fixture(scope="session", autouse=True)
def _matplotlib_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One font cache for all tests; a sandbox is thrown away with the directory that plot makes for it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPLCONFIGDIR", str(tmp_path_factory.mktemp("matplotlib")))
        yield
