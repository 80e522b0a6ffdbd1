"""health_check, environment, pip_list: what there is."""

import os
import resource
import sys
from pathlib import Path
from typing import Any

import pytest

from corral_runner.interface import ToolContext
from corral_tools import environment, health_check, pip_list


def test_A6_health_check_gives_status_platform_and_python_version(context: ToolContext) -> None:
    assert health_check.run({}, context) == {
        "status": "healthy",
        "checks": {
            "workspace_readable": True,
            "working_directory_is_workspace": True,
            "clock_is_set": True,
            "random_source": True,
        },
        "platform": {
            "system": os.uname().sysname,
            "release": os.uname().release,
            "machine": os.uname().machine,
        },
        "python_version": ".".join(map(str, sys.version_info[:3])),
    }


def test_A6_health_check_is_degraded_outside_the_workspace(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    result: Any = health_check.run({}, ToolContext(str(workspace)))
    assert (result["status"], result["checks"]["working_directory_is_workspace"]) == ("degraded", False)
    result = health_check.run({}, ToolContext(str(workspace / "gone")))
    assert (result["status"], result["checks"]["workspace_readable"]) == ("degraded", False)


def test_W7_environment_shows_names_of_variables_and_never_values(
    context: ToolContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_KEY", "canary-5d41402a")
    result: Any = environment.run({}, context)
    assert "API_KEY" in result["environment_variables"]
    assert "canary-5d41402a" not in str(result)


def test_W7_environment_describes_python_limits_and_workspace(workspace: Path, context: ToolContext) -> None:
    result: Any = environment.run({}, context)
    assert result["python"]["version"] == ".".join(map(str, sys.version_info[:3]))
    assert result["workspace"]["path"] == str(workspace)
    assert result["workspace"]["allowed_paths"] == ["."]
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert result["limits"]["open_files"] == (None if soft == resource.RLIM_INFINITY else soft)
    assert result["limits"]["cpus"] >= 1


def test_W7_environment_finds_commands_on_the_path(
    workspace: Path, context: ToolContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    (workspace / "git").write_text("#!/bin/sh\n")
    (workspace / "git").chmod(0o755)
    (workspace / "make").write_text("not executable")
    monkeypatch.setenv("PATH", str(workspace))
    result: Any = environment.run({}, context)
    assert result["commands"] == {"git": str(workspace / "git")}


def test_cgroup_limits_that_are_not_shown_are_null(
    context: ToolContext, monkeypatch: pytest.MonkeyPatch, workspace: Path
) -> None:
    (workspace / "memory.max").write_text("max\n")
    monkeypatch.setattr(environment, "_CGROUP", str(workspace))
    result: Any = environment.run({}, context)
    assert (result["limits"]["cgroup_memory_bytes"], result["limits"]["cgroup_processes"]) == (None, None)
    (workspace / "memory.max").write_text("1048576\n")
    result = environment.run({}, context)
    assert result["limits"]["cgroup_memory_bytes"] == 1 << 20


def test_W7_pip_list_gives_names_and_versions_in_order(context: ToolContext) -> None:
    from importlib.metadata import version

    result: Any = pip_list.run({}, context)
    packages = {package["name"].lower(): package["version"] for package in result["packages"]}
    assert packages["duckdb"] == version("duckdb")
    assert [*packages] == sorted(packages, key=lambda name: name.replace("_", "-").replace(".", "-"))
    assert (result["count"], result["truncated"]) == (len(packages), False)


@pytest.mark.parametrize("name", ["typing-ext", "Typing_Extensions", "typing.extensions"])
def test_W7_pip_list_finds_packages_however_their_name_is_written(name: str, context: ToolContext) -> None:
    result: Any = pip_list.run({"name": name}, context)
    assert [package["name"] for package in result["packages"]] == ["typing_extensions"]


def test_W7_pip_list_takes_the_first_of_two_on_the_path_and_skips_broken_ones(
    workspace: Path, context: ToolContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place, version in (("1", "1.0"), ("2", "2.0")):
        info = workspace / place / f"corral_probe-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: corral_probe\nVersion: {version}\nSummary: UNKNOWN\n"
        )
    (workspace / "1" / "broken-1.dist-info").mkdir()
    monkeypatch.setattr(sys, "path", [str(workspace / "1"), str(workspace / "2"), *sys.path])
    result: Any = pip_list.run({"name": "corral-probe"}, context)
    assert result == {
        "packages": [{"name": "corral_probe", "version": "1.0", "summary": ""}],
        "count": 1,
        "truncated": False,
    }


def test_W7_pip_list_is_bounded(context: ToolContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pip_list, "MAX_PACKAGES", 3)
    result: Any = pip_list.run({}, context)
    assert (len(result["packages"]), result["truncated"]) == (3, True)
    assert result["count"] > 3
