"""A real API server, asked with kubectl: as an administrator, or as somebody else."""

import json
import os
import subprocess
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import yaml

from chart.programs import program
from chart.rendering import CHART, Object


class Refused(Exception):  # noqa: N818 - what happened
    """kubectl failed; the message is what it says."""


def kubectl(
    *arguments: str,
    stdin: Object | Sequence[Object] | None = None,
    user: str | None = None,
    seconds: float = 60,
) -> str:
    """Run kubectl and return what it prints.

    Args:
        arguments: of kubectl.
        stdin: objects for ``-f -``.
        user: ask as this user.
        seconds: to wait at most.

    Raises:
        Refused: it failed.
    """
    assert os.environ.get("KUBECONFIG"), (
        "KUBECONFIG names no cluster. PYTHONPATH=scripts python -m rig makes one"
    )
    many = [stdin] if isinstance(stdin, dict) else list(stdin or ())
    result = subprocess.run(
        [program("kubectl"), *([f"--as={user}"] if user else []), *arguments],
        input="\n---\n".join(map(json.dumps, many)),
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
    )
    if result.returncode != 0:
        raise Refused(result.stderr.strip())
    return result.stdout


def try_out(found: Object, *, user: str | None = None, namespace: str) -> None:
    """Let the API server say what it would do with a new object, admission included, and make nothing.

    Raises:
        Refused: it would refuse.
    """
    kubectl("create", "--dry-run=server", "--namespace", namespace, "-f", "-", stdin=found, user=user)


def get(kind: str, name: str, namespace: str) -> Object:
    """Return an object."""
    answer: Object = json.loads(kubectl("get", kind, name, "--namespace", namespace, "-o", "json"))
    return answer


@contextmanager
def namespace(labels: Mapping[str, str] | None = None) -> Iterator[str]:
    """Make a namespace of one's own, and delete it in the end."""
    name = f"chart-{uuid.uuid4().hex[:8]}"
    kubectl(
        "create",
        "-f",
        "-",
        stdin={
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": dict(labels or {})},
        },
    )
    try:
        yield name
    finally:
        kubectl("delete", "namespace", name, "--wait=false")


def definitions() -> None:
    """Make sure of the CustomResourceDefinitions. They stay: others may use them."""
    kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CHART / "crds"))
    kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", str(CHART / "crds"))


@contextmanager
def applied(objects: Sequence[Object]) -> Iterator[None]:
    """Apply objects, and delete them in the end."""
    kubectl("apply", "--server-side", "-f", "-", stdin=objects)
    try:
        yield
    finally:
        kubectl("delete", "--ignore-not-found", "--wait=false", "-f", "-", stdin=objects)


def helm(*arguments: str, values: Mapping[str, Any] | None = None, seconds: float = 300) -> str:
    """Run helm and return what it prints, both streams.

    Raises:
        Refused: it failed.
    """
    more = ["--values", "-"] if values is not None else []
    result = subprocess.run(
        [program("helm"), *arguments, *more],
        input=yaml.safe_dump(dict(values or {})),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=seconds,
    )
    if result.returncode != 0:
        raise Refused(result.stdout.strip())
    return result.stdout
