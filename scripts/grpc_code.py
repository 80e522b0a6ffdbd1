"""The Python code of the gRPC interface, made from its description by the pinned compiler."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

_SOURCE = Path("core/src")
_PROTOS = ("corral/grpc/v1/agent.proto",)


def grpc_code() -> Iterator[tuple[Path, str]]:
    """Messages, stubs and their types, beside each description.

    Raises:
        subprocess.CalledProcessError: a description is wrong; the compiler has said where.
    """
    programs = Path(sys.executable).parent
    root = Path(__file__).resolve().parent.parent
    with tempfile.TemporaryDirectory() as folder:
        outputs = [f"--{kind}_out={folder}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")]
        plugins = [
            f"--plugin=protoc-gen-{name}={programs / f'protoc-gen-{name}'}" for name in ("mypy", "mypy_grpc")
        ]
        known = resources.files("grpc_tools") / "_proto"
        command = [
            sys.executable,
            "-m",
            "grpc_tools.protoc",
            f"-I{_SOURCE}",
            f"-I{known}",
            *plugins,
            *outputs,
        ]
        made = subprocess.run([*command, *_PROTOS], cwd=root, capture_output=True, text=True, check=False)
        if made.returncode:
            sys.stderr.write(made.stderr)
            made.check_returncode()
        for file in sorted(Path(folder).rglob("*.py*")):
            yield _SOURCE / file.relative_to(folder), file.read_text(encoding="utf-8")
