"""The chart, rendered and parsed."""

import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from chart.programs import program

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "corral"
Object = dict[str, Any]


class RenderError(Exception):
    """Helm refused the values."""


def render(
    values: Mapping[str, Any] | None = None,
    *,
    release: str = "corral",
    namespace: str = "corral",
    apis: Sequence[str] = (),
) -> list[Object]:
    """Return all objects of a release, hooks and tests too.

    Raises:
        RenderError: with what Helm says.
    """
    return json.loads(_render(json.dumps(values or {}), release, namespace, tuple(apis)))  # type: ignore[no-any-return]


def of_kind(objects: Sequence[Object], kind: str) -> list[Object]:
    """Return the objects of one kind."""
    return [found for found in objects if found["kind"] == kind]


def one(objects: Sequence[Object], kind: str, name: str) -> Object:
    """Return the one object of a kind and name."""
    found = [each for each in of_kind(objects, kind) if each["metadata"]["name"] == name]
    assert len(found) == 1, f"{len(found)} of {kind}/{name}"
    return found[0]


def is_hook(found: Object) -> bool:
    """Return whether Helm makes it only for a moment."""
    return "helm.sh/hook" in (found["metadata"].get("annotations") or {})


@cache
def _render(values: str, release: str, namespace: str, apis: tuple[str, ...]) -> str:
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        file.write(values)
        file.flush()
        result = subprocess.run(
            [
                program("helm"),
                "template",
                release,
                CHART,
                "--namespace",
                namespace,
                "--values",
                file.name,
                "--kube-version",
                "1.36.0",
                *(f"--api-versions={api}" for api in apis),
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    if result.returncode != 0:
        raise RenderError(result.stderr)
    return json.dumps([document for document in yaml.safe_load_all(result.stdout) if document])
