"""A11: the unit of gateway/systemd under a real systemd: sandboxes start with all that it forbids, and isolate fully.

The systemd is that of a node's image, in a privileged container: the one real one that a machine without it has.
"""

import json
import re
import subprocess
import sys
import sysconfig
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rig import docker, node_image

from eventually import eventually

ROOT = Path(__file__).resolve().parents[2]
UNIT = ROOT / "gateway" / "systemd" / "corral-gateway.service"
SOURCES = ("core", "gateway", "sandbox-image")
#: As make setup writes it.
COMMAND = "#!/opt/corral/.venv/bin/python\nfrom corral.cli import main\nmain()\n"
ASK = """
import json, sys, urllib.request
body = json.dumps({"tool": "shell", "arguments": {"command": "id -u; echo $((6*7))"}}).encode()
headers = {"X-API-Key": sys.argv[1], "Content-Type": "application/json"}
request = urllib.request.Request("http://127.0.0.1:8000/v1/tasks?wait=60s", body, headers)
print(json.dumps(json.load(urllib.request.urlopen(request, timeout=90))["status"]))
"""


class Machine:
    """A container whose first process is systemd."""

    def __init__(self, name: str) -> None:
        self.name = name

    def run(self, *command: str, stdin: str | None = None, user: str = "root") -> str:
        """Run a command there and return what it prints.

        Raises:
            AssertionError: it failed.
        """
        done = subprocess.run(
            ["docker", "exec", "--interactive", "--user", user, self.name, *command],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
        return done.stdout

    def write(self, path: str, text: str, mode: str = "644") -> None:
        """Write a file there."""
        self.run("sh", "-c", f"mkdir -p $(dirname {path}) && cat > {path} && chmod {mode} {path}", stdin=text)

    def serve(self, more: str = "") -> None:
        """Start the service anew, with further settings of the unit, and wait until it serves."""
        self.write("/etc/systemd/system/corral-gateway.service.d/more.conf", f"[Service]\n{more}\n")
        self.run("systemctl", "daemon-reload")
        self.run("systemctl", "restart", "corral-gateway")
        health = "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=2)"
        eventually(lambda: self._succeeds("/usr/bin/python3", "-c", health), seconds=60)

    def corral(self, *arguments: str) -> str:
        """Run the command as the documentation says."""
        settings = ("CORRAL_DATA_DIR=/var/lib/corral/data", f"PYTHONPATH={_paths()}")
        command = ("env", "--chdir=/var/lib/corral", *settings, "/opt/corral/.venv/bin/corral", *arguments)
        return self.run(*command, user="corral").strip()

    def task(self, key: str) -> dict[str, Any]:
        """Run a task at the gateway and return its status."""
        status: dict[str, Any] = json.loads(self.run("/usr/bin/python3", "-c", ASK, key))
        return status

    def _succeeds(self, *command: str) -> bool:
        try:
            self.run(*command)
        except AssertionError:
            return False
        return True


def _paths() -> str:
    return ":".join(f"/opt/corral/{source}/src" for source in SOURCES)


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    assert sys.version_info[:2] == (3, 11), (
        "the node's image has Python 3.11, and its packages come from here"
    )
    docker.connect()
    image = node_image.ensure(build=True).name
    machine = Machine(f"corral-service-{uuid.uuid4().hex[:8]}")
    packages = sysconfig.get_paths()["platlib"]
    mounts = [f"{packages}:/opt/corral/.venv/lib/python3.11/site-packages:ro"]
    mounts += [f"{ROOT / source / 'src'}:/opt/corral/{source}/src:ro" for source in SOURCES]
    subprocess.run(
        [
            *(
                "docker",
                "run",
                "--detach",
                "--rm",
                "--name",
                machine.name,
                "--privileged",
                "--network",
                "none",
            ),
            *("--tmpfs", "/run", "--tmpfs", "/tmp", "--env", "container=docker"),
            *(word for mount in mounts for word in ("--volume", mount)),
            *("--entrypoint", "/lib/systemd/systemd", image, "--unit=multi-user.target"),
        ],
        check=True,
        capture_output=True,
        timeout=120,
    )
    try:
        eventually(lambda: machine._succeeds("systemctl", "is-system-running"), seconds=60)
        machine.run("mkdir", "-p", "/opt/corral/.venv/bin")
        machine.run("ln", "-s", "/usr/bin/python3.11", "/opt/corral/.venv/bin/python")
        machine.write("/opt/corral/.venv/pyvenv.cfg", "home = /usr/bin\nversion = 3.11\n")
        machine.write("/opt/corral/.venv/bin/corral", COMMAND, "755")
        machine.write("/usr/lib/sysusers.d/corral.conf", (UNIT.parent / "corral.conf").read_text())
        machine.write("/etc/systemd/system/corral-gateway.service", UNIT.read_text())
        settings = (UNIT.parent / "gateway.env").read_text()
        machine.write("/etc/corral/gateway.env", f"{settings}\nPYTHONPATH={_paths()}\n", "600")
        machine.run("systemd-sysusers")
        yield machine
    finally:
        subprocess.run(["docker", "kill", machine.name], capture_output=True, timeout=60, check=False)


@pytest.fixture(scope="module")
def key(machine: Machine) -> str:
    machine.serve()
    return machine.corral("keys", "create", "admin", "--role", "admin")


def test_A11_sandboxes_of_the_service_isolate_fully(machine: Machine, key: str) -> None:
    machine.serve()
    status = machine.task(key)
    assert status["reason"] == "Completed", status
    assert status["executions"][0]["output"]["stdout"].split()[-1] == "42"
    assert status["sandbox"]["weakened"] == []
    assert {"userns", "pidns", "mountns", "netns", "rlimits", "seccomp", "landlock"} <= set(
        status["sandbox"]["isolation"]
    )
    journal = machine.run("journalctl", "--unit=corral-gateway", "--output=cat", "--no-pager")
    assert "request" in journal
    assert re.search(r"corral_[0-9a-f]{12}_", journal) is None


@pytest.mark.parametrize("forbidden", ["ProtectHostname=yes", "RestrictNamespaces=yes", "ProcSubset=pid"])
def test_A11_what_the_unit_leaves_out_would_end_every_sandbox(
    machine: Machine, key: str, forbidden: str
) -> None:
    machine.serve(forbidden)
    assert machine.task(key)["reason"] == "SandboxFailed"


def test_A11_the_service_ends_well_when_it_is_told_to(machine: Machine, key: str) -> None:
    machine.serve()
    assert machine.task(key)["reason"] == "Completed"
    machine.run("systemctl", "stop", "corral-gateway")
    assert machine.run("systemctl", "show", "--property=Result", "corral-gateway") == "Result=success\n"
    owner = machine.run("stat", "--format=%U %a", "/var/lib/corral/data/corral.db")
    assert owner == "corral 600\n"
