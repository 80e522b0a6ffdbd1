"""A11: the gateway as a service of systemd: the unit is valid, closed as far as sandboxes allow, and its settings are.

That sandboxes start under it a real systemd shows in tests/cluster/test_service_of_systemd.py.
"""

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

from corral_gateway.ending import LAST_SECONDS
from corral_gateway.settings import Settings
from integration.gateway.serving import CORRAL

FOLDER = Path(__file__).resolve().parents[3] / "gateway" / "systemd"
#: systemd's own measure, from 0 (closed) to 10, times ten. What it still minds is what a sandbox is made with.
EXPOSURE = 33

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed here"
)


def service() -> dict[str, str]:
    """Return the last value of each setting of the service."""
    parser = configparser.RawConfigParser(strict=False, delimiters=("=",), comment_prefixes=("#",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(FOLDER / "corral-gateway.service")
    return dict(parser["Service"])


def test_A11_the_service_has_no_rights_and_its_sandboxes_can_be_made() -> None:
    found = service()
    assert found["User"] == found["Group"] == "corral"
    for name in ("NoNewPrivileges", "ProtectHome", "PrivateTmp", "PrivateDevices", "RestrictSUIDSGID"):
        assert found[name] == "yes", name
    assert found["ProtectSystem"] == "strict"
    assert found["CapabilityBoundingSet"] == found["AmbientCapabilities"] == ""
    # Each of these was seen to keep bubblewrap from making a sandbox, or is inherited by tools that it breaks.
    for name in (
        *("RestrictNamespaces", "ProtectHostname", "ProcSubset", "ProtectProc", "ProtectKernelTunables"),
        *("ProtectKernelLogs", "MemoryDenyWriteExecute"),
    ):
        assert name not in found, name
    assert not {"@mount", "@privileged"} & set(found["SystemCallFilter"].lstrip("~").split())


def test_B13_the_service_is_killed_no_sooner_than_it_can_have_ended() -> None:
    fields = Settings.model_fields
    longest = fields["drain_seconds"].default + fields["grace_seconds"].default + LAST_SECONDS
    assert float(service()["TimeoutStopSec"]) >= longest
    assert service()["KillMode"] == "mixed"  # sandboxes are not told with it: what runs in them goes on


def test_A11_no_key_is_printed_to_the_journal() -> None:
    lines = (FOLDER / "corral-gateway.service").read_text().splitlines()
    assert "Environment=CORRAL_FIRST_KEY=false" in lines


def test_A11_the_settings_file_is_one_that_the_gateway_takes(tmp_path: Path) -> None:
    text = (FOLDER / "gateway.env").read_text()
    known = {str(field.alias or name).upper() for name, field in Settings.model_fields.items()}
    lines = [line.lstrip("#") for line in text.splitlines() if "=" in line and not line.startswith("# ")]
    assert {line.split("=")[0] for line in lines} <= known
    (tmp_path / ".env").write_text("\n".join(lines))
    settings = Settings(_env_file=tmp_path / ".env")
    assert settings.host == "127.0.0.1"
    assert settings.log_format == "json"


@needs_systemd
def test_A11_systemd_takes_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "corral-gateway.service"
    text = (FOLDER / "corral-gateway.service").read_text()
    # It asks for the program to be there.
    unit.write_text(text.replace("/opt/corral/.venv/bin/corral", str(CORRAL)))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, "corral-gateway" in done.stdout + done.stderr) == (0, False), done.stderr
    broken = tmp_path / "broken.service"
    broken.write_text(text.replace("ProtectSystem=strict", "ProtectSystem=very"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", broken],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Failed to parse protect system value" in done.stderr


@needs_systemd
def test_A11_systemd_finds_it_closed() -> None:
    measure = ["systemd-analyze", "security", "--offline=yes", "--no-pager"]
    unit = FOLDER / "corral-gateway.service"
    found = subprocess.run(
        [*measure, f"--threshold={EXPOSURE}", unit], capture_output=True, text=True, timeout=60, check=False
    )
    assert found.returncode == 0, found.stdout[-300:]
