"""Brings the CustomResourceDefinitions of this version of the chart before an upgrade.

Helm installs what stands in a chart's crds/ once and never touches it again. The files are applied as
`kubectl apply --server-side` would.
"""

import sys
from pathlib import Path

from cluster_api import call

_PATH = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def main() -> int | str:
    """Apply each file named *.corral.dev.yaml beside this one."""
    files = sorted(Path(__file__).parent.glob("*.corral.dev.yaml"))
    for file in files:
        name = file.name.removesuffix(".yaml")
        applied = call(
            "PATCH",
            # force: these definitions are Corral's, whoever applied an older one. In Helm's name, because Helm 4
            # applies them when a release is installed, and would be refused what another manager has changed.
            f"{_PATH}/{name}?fieldManager=helm&force=true",
            file.read_bytes(),
            "application/apply-patch+yaml",
        )
        print(f"applied {applied['metadata']['name']}, generation {applied['metadata']['generation']}")
    return 0 if files else "no definitions found"


if __name__ == "__main__":
    sys.exit(main())
