"""Go itself: the machine's, if it is new enough to fetch the version a module asks for."""

from __future__ import annotations

import re
import shutil
from functools import cache
from pathlib import Path

from rig.errors import RigError
from rig.shell import output

# Since 1.21 go downloads by itself the toolchain that a module asks for.
_OLDEST = (1, 21)
_REMEDY = "Install Go 1.21 or newer (https://go.dev/dl) and put it on PATH."


@cache
def go() -> str:
    """The path of a usable `go`."""
    found = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin:/usr/lib/go/bin")
    if found is None:
        raise RigError(
            "there is no Go toolchain, and the cluster's programs are built from Go modules", _REMEDY
        )
    told = output([found, "version"], cwd=Path("/"))
    version = re.search(r"go(\d+)\.(\d+)", told)
    if version is None or (int(version[1]), int(version[2])) < _OLDEST:
        raise RigError(f"Go is too old: {told.strip()}", _REMEDY)
    return found
