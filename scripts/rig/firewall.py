"""What a Docker daemon leaves in the kernel when it ends: chains, a drop policy, forwarding, a bridge. Taken away."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from rig.errors import RigError
from rig.shell import output

_FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
_FAMILIES = ("iptables", "ip6tables")
# The daemon's chains are DOCKER and DOCKER-…; its bridges docker0 and br-<12 digits of the network's id>.
_OF_DOCKER = re.compile(r"\bDOCKER\b|\bDOCKER-|\bdocker0\b|\bbr-[0-9a-f]{12}\b")
_FORWARD_POLICY = re.compile(r"^:FORWARD (\w+)", re.MULTILINE)


def remember(file: Path) -> None:
    """Write down, before the daemon starts, what it changes without a trace."""
    state = {"ip_forward": _FORWARDING.read_text(encoding="utf-8").strip()}
    for family in _FAMILIES:
        if shutil.which(family):
            policy = _FORWARD_POLICY.search(output([f"{family}-save", "-t", "filter"]))
            state[family] = policy[1] if policy else "ACCEPT"
    file.write_text(json.dumps(state), encoding="utf-8")


def forget_docker(file: Path) -> None:
    """Remove the daemon's rules and bridges, and put back what `remember` wrote down."""
    before: dict[str, str] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    for family in _FAMILIES:
        if shutil.which(family):
            rules = without_docker(output([f"{family}-save"]), before.get(family, "ACCEPT"))
            output([f"{family}-restore"], stdin=rules)
    for bridge in re.findall(r"^\d+: (docker0|br-[0-9a-f]{12}):", output(["ip", "-o", "link"]), re.MULTILINE):
        output(["ip", "link", "delete", bridge])
    if before.get("ip_forward") == "0":
        try:
            _FORWARDING.write_text("0", encoding="utf-8")
        except OSError as error:
            raise RigError(f"cannot put back ip_forward: {error}") from error


def without_docker(saved: str, forward_policy: str) -> str:
    """The text of `iptables-save` without every line that names a chain or a bridge of Docker."""
    kept = [
        re.sub(r"^:FORWARD \w+", f":FORWARD {forward_policy}", line)
        for line in saved.splitlines()
        if line.startswith("#") or not _OF_DOCKER.search(line)
    ]
    return "\n".join(kept) + "\n"
