"""The Docker backend: each sandbox is a single-use container, the runner its first process.

Needs the ``docker`` package (``pip install "corral[docker]"``) and a daemon, on this machine or another.
"""

from corral.sandbox.docker.backend import DockerBackend
from corral.sandbox.docker.options import DEFAULT_IMAGE, DockerOptions

__all__ = ["DEFAULT_IMAGE", "DockerBackend", "DockerOptions"]
