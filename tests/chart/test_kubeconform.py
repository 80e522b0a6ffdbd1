"""M10: what Kubernetes itself says of the chart's objects, as far as that goes without a cluster.

kubeconform fetches the schemas of Kubernetes' own kinds from the network, which is not always there; a real API
server checks those in tests/cluster/test_chart.py. Here it checks Corral's own, from the definitions.
"""

import json
import subprocess
from pathlib import Path

from chart.programs import program
from chart.rendering import render
from corral.api.crd import RESOURCES, openapi_schema


def test_M10_pools_and_tasks_of_the_chart_are_valid(tmp_path: Path) -> None:
    for resource in RESOURCES:
        schema = openapi_schema(resource.model)
        # draft 4's boolean, which kubeconform reads; and what the API server adds by itself
        (tmp_path / f"{resource.model.__name__.lower()}.json").write_text(json.dumps(schema))
    pools = [
        each
        for each in render(
            {"pools": [{"name": "a", "spec": {"replicas": 3, "resources": {"memory": "1Gi"}}}]}
        )
        if each["apiVersion"].startswith("corral.dev/")
    ]
    file = tmp_path / "objects.yaml"
    file.write_text("\n---\n".join(map(json.dumps, pools)))
    result = subprocess.run(
        [
            program("kubeconform"),
            "-output",
            "json",
            "-summary",
            "-schema-location",
            f"{tmp_path}/{{{{ .ResourceKind }}}}.json",
            file,
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert json.loads(result.stdout)["summary"] == {"valid": 1, "invalid": 0, "errors": 0, "skipped": 0}, (
        result.stdout
    )
