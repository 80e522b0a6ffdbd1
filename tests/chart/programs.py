"""The programs that chart tests need. Missing is an error that says how to get it, never a skip."""

import os
import shutil
from pathlib import Path


def program(name: str) -> str:
    """Return the path of a program: on PATH, or where the test rig leaves it.

    Raises:
        AssertionError: it is in neither.
    """
    cache = os.environ.get("CORRAL_RIG_CACHE")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "corral" / "rig"
    rig = (Path(cache) if cache else base) / "path"
    found = shutil.which(name, path=f"{rig}{os.pathsep}{os.environ.get('PATH', '')}")
    assert found is not None, (
        f"{name} is neither on PATH nor in {rig}. Build it: PYTHONPATH=scripts python -m rig binaries {name}"
    )
    return found
