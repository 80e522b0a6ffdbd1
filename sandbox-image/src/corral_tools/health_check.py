"""Whether the sandbox a call would run in is sound: status, platform, Python version."""

import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from corral_runner.interface import JSON, ToolContext


def run(_arguments: "Mapping[str, Any]", context: "ToolContext") -> "JSON":
    """``healthy`` when every check holds, ``degraded`` otherwise; the checks are listed by name."""
    checks: dict[str, JSON] = {
        "workspace_readable": os.access(context.workspace, os.R_OK | os.X_OK),
        "working_directory_is_workspace": _is_working_directory(context.workspace),
        "clock_is_set": time.time() > 1_577_836_800,  # 2020-01-01: a clock before it was never set
        "random_source": len(os.urandom(8)) == 8,
    }
    system = os.uname()
    return {
        "status": "healthy" if all(checks.values()) else "degraded",
        "checks": checks,
        "platform": {"system": system.sysname, "release": system.release, "machine": system.machine},
        "python_version": ".".join(str(part) for part in sys.version_info[:3]),
    }


def _is_working_directory(workspace: str) -> bool:
    try:
        return os.path.samefile(workspace, ".")
    except OSError:  # a directory that is gone answers no question; that it is unsound is the answer
        return False
