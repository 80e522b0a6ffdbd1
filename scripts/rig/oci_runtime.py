"""An OCI runtime in front of runc for a root without CAP_SYS_RESOURCE: `oci_runtime.py RUNC ARGUMENTS…`.

kind runs its nodes `--privileged`, which asks for every capability there is, and runc refuses to give one that the
caller itself lacks ("unable to apply caps"). This takes that capability, and the OOM score that needs it, out of
what runc is about to read, and then becomes runc. It runs for each container and each `docker exec`, so it imports
little.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

_LACKED = "CAP_SYS_RESOURCE"


def main(arguments: list[str]) -> None:
    runc, *rest = arguments
    if "create" in rest or "run" in rest or "restore" in rest:
        _rewrite(f"{_option(rest, '--bundle', '-b') or '.'}/config.json")
    elif "exec" in rest and (file := _option(rest, "--process", "-p")):
        _rewrite(file)
    os.execv(runc, [runc, *rest])  # noqa: S606 - there is no shell, and the arguments are the daemon's


def without_capability(document: dict[str, Any]) -> dict[str, Any]:
    """A bundle's config or an exec's process, without what runc would refuse."""
    process = document.get("process", document)
    process.pop("oomScoreAdj", None)
    capabilities = process.get("capabilities") or {}
    for name, held in capabilities.items():
        capabilities[name] = [capability for capability in held or () if capability != _LACKED]
    return document


def _rewrite(file: str) -> None:
    with open(file, encoding="utf-8") as stream:  # noqa: PTH123 - pathlib costs more than the rest of this
        document = json.load(stream)
    with open(file, "w", encoding="utf-8") as stream:  # noqa: PTH123 - same
        json.dump(without_capability(document), stream)


def _option(arguments: list[str], *names: str) -> str | None:
    for position, argument in enumerate(arguments):
        for name in names:
            if argument == name and position + 1 < len(arguments):
                return arguments[position + 1]
            if argument.startswith(name + "="):
                return argument[len(name) + 1 :]
    return None


if __name__ == "__main__":
    main(sys.argv[1:])
