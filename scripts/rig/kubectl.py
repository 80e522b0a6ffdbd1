"""kubectl against one cluster."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rig import binaries
from rig.shell import output, succeeds

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Kubectl:
    """Attributes: the kubeconfig whose current context is the cluster."""

    kubeconfig: Path

    def __call__(self, *arguments: str, stdin: str = "", timeout_seconds: float = 60) -> str:
        return output(
            [self.program(), *arguments],
            stdin=stdin,
            timeout_seconds=timeout_seconds,
            env={"KUBECONFIG": str(self.kubeconfig)},
        )

    def json(self, *arguments: str) -> Any:
        return json.loads(self(*arguments, "--output=json"))

    def apply(self, manifest: str) -> None:
        self("apply", "--server-side", "--force-conflicts", "--filename=-", stdin=manifest)

    def answers(self) -> bool:
        command = [self.program(), "get", "--raw=/readyz", "--request-timeout=5s"]
        return succeeds(command, timeout_seconds=15, env={"KUBECONFIG": str(self.kubeconfig)})

    @staticmethod
    def program() -> str:
        return shutil.which("kubectl") or str(binaries.path("kubectl"))
