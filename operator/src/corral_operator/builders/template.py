"""What a pool's pods are made from, and when a waiting one is outdated."""

import hashlib
import json
from dataclasses import dataclass, replace
from typing import Any

from corral.api import API_VERSION, SandboxPoolSpec
from corral.cluster.port import ObjectKey
from corral_operator.builders.runner import runner_settings
from corral_operator.builders.sandbox_pod import PodOwner, PodSpec, RunnerProcess, pod_body
from corral_operator.decisions.template import pool_size
from corral_operator.names import POOL_LABEL, TEMPLATE_LABEL, label_value
from corral_operator.settings import Settings

_DIGITS = 10


@dataclass(frozen=True, slots=True)
class PodIdentity:
    """What one waiting pod has for itself."""

    name: str
    start_token_sha256: str
    read_token_sha256: str


def pool_pod_spec(
    pool: ObjectKey, spec: SandboxPoolSpec, identity: PodIdentity, settings: Settings
) -> PodSpec:
    """Return what a waiting pod of a pool is made from."""
    labels = {POOL_LABEL: label_value(pool.name), TEMPLATE_LABEL: template_hash(spec, settings)}
    return replace(
        _pod_spec(spec, settings, identity),
        namespace=pool.namespace,
        labels=labels,
        owner=PodOwner(API_VERSION, "SandboxPool", pool.name, pool.uid),
    )


def template_hash(spec: SandboxPoolSpec, settings: Settings) -> str:
    """Return a short hash of all that the pods of a pool have in common, in two parts joined by a hyphen.

    The first part speaks of what tasks choose a pool by; the second of everything else, down to how this version of
    the operator writes a pod. A waiting pod with another first part serves nobody any more. One that differs in
    the second alone, as after an upgrade, serves until a new one is ready.
    """
    bare = _pod_spec(spec, settings, PodIdentity("", "", ""))
    asked = [
        spec.image,  # absent stays absent: the operator's own image is the same choice in every version
        bare.runtime_class,
        spec.network.value,
        [bare.size.cpu, bare.size.memory_bytes, bare.size.disk_bytes],
    ]
    return f"{_digest(asked)}-{_digest(pod_body(bare, settings))}"


def _pod_spec(spec: SandboxPoolSpec, settings: Settings, identity: PodIdentity) -> PodSpec:
    """Return all of a waiting pod but the pool's identity."""
    return PodSpec(
        name=identity.name,
        namespace="",
        labels={},
        owner=PodOwner("", "", "", ""),
        image=spec.image or settings.sandbox_image,
        size=pool_size(spec),
        runtime_class=spec.runtime_class_name or settings.runtime_class,
        process=RunnerProcess(
            identity.start_token_sha256, identity.read_token_sha256, runner_settings(settings, waits=True)
        ),
    )


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]
