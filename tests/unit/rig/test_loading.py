"""Images on their way to the nodes."""

import pytest
from rig.loading import reference


@pytest.mark.parametrize(
    ("image", "full"),
    [
        ("corral/sandbox:dev", "docker.io/corral/sandbox:dev"),
        ("debian", "docker.io/library/debian:latest"),
        ("debian:bookworm-slim", "docker.io/library/debian:bookworm-slim"),
        ("localhost/tool:1", "localhost/tool:1"),
        ("localhost:5000/tool", "localhost:5000/tool:latest"),
        ("registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10"),
    ],
)
def test_a_nodes_name_of_an_image_is_the_full_one(image: str, full: str) -> None:
    assert reference(image) == full
