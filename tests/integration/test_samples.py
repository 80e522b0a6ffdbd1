"""Every sample in k8s/samples, run for real; those in failures/ must fail as they say."""

from pathlib import Path

import pytest

from corral.api import AgentTask, Tool, load_manifests
from corral.catalogue import Catalogue
from corral.client import Client

SAMPLES = Path(__file__).resolve().parents[2] / "k8s/samples"
FILES = sorted(SAMPLES.rglob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_M13_sample_ends_as_it_says(path: Path) -> None:
    resources = [manifest.resource for manifest in load_manifests(path)]
    catalogue = Catalogue.builtin()
    for resource in resources:
        if isinstance(resource, Tool):
            catalogue.register(resource)
    tasks = [resource for resource in resources if isinstance(resource, AgentTask)]
    assert tasks
    with Client(catalogue=catalogue, waiting=1) as client:
        for task in tasks:
            expected = (task.metadata.annotations or {}).get("corral.dev/expected-reason", "Completed")
            ended = client.run_task(task)
            assert ended.reason == expected, ended.status
            assert ("failures" in path.parts) == (not ended.succeeded)
