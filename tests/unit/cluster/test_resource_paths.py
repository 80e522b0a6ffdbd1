"""M5: the paths of objects in the API: whatever a name is, it leads nowhere else."""

import pytest

from corral.cluster.port import AGENT_TASKS, PODS, TOOLS


def test_M5_objects_and_kinds_have_the_paths_of_the_api() -> None:
    assert TOOLS.path("team", "read-file") == "/apis/corral.dev/v1alpha1/namespaces/team/tools/read-file"
    assert PODS.path("team", "box", "log") == "/api/v1/namespaces/team/pods/box/log"
    assert AGENT_TASKS.path() == "/apis/corral.dev/v1alpha1/agenttasks"


@pytest.mark.parametrize(
    ("name", "written"),
    [("x?watch=1", "x%3Fwatch%3D1"), ("../pods", "..%2Fpods"), ("x#", "x%23"), ("%2F", "%252F")],
)
def test_M5_a_name_is_one_part_of_a_path_and_nothing_else(name: str, written: str) -> None:
    assert TOOLS.path("team", name).rpartition("/tools/")[2] == written
