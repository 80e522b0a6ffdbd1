"""Where the rig keeps things: what is worth keeping in a cache, what runs now under one folder of the run time."""

from __future__ import annotations

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
GO_SOURCES = Path(__file__).resolve().parent / "go"
KIND_FILES = REPOSITORY / "k8s" / "kind"


def cache() -> Path:
    """Binaries, file systems, images: safe to delete, slow to make again. Never inside the repository."""
    if chosen := os.environ.get("CORRAL_RIG_CACHE"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "corral" / "rig"


def kubeconfig(cluster: str) -> Path:
    return cache() / "kubeconfig" / cluster
