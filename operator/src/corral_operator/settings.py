"""What the operator is told once, at its start, by the environment."""

from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

_Seconds = Annotated[float, Field(gt=0, le=604800)]


class Settings(BaseSettings):
    """Environment variables ``CORRAL_…``, read at start and frozen. A wrong one is refused with its name."""

    model_config = SettingsConfigDict(env_prefix="CORRAL_", frozen=True, env_parse_none_str="")

    # --- where it works ---
    namespaces: Annotated[tuple[str, ...], Field(min_length=1)] = ("*",)
    """Namespaces whose tasks it runs, as a JSON list; ``["*"]``: all."""
    operator_namespace: str = "corral"
    """Its own namespace: Lease, key, and the pods that may reach a runner."""
    identity: str = "corral-operator"
    """Its name in the Lease: the pod's name, different in every replica."""

    pod_uid: str | None = None
    """UID of its own pod, which owns the pod that proves the network closed; absent outside a cluster."""

    # --- sandboxes ---
    sandbox_image: str = "corral/sandbox:dev"
    """Image of sandboxes with a runner."""
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    """imagePullPolicy of sandbox pods."""
    image_pull_secrets: tuple[str, ...] = ()
    """imagePullSecrets of sandbox pods."""
    host_users: bool = True
    """False: sandbox pods get a user namespace of their own (hostUsers: false)."""
    runtime_class: str | None = None
    """RuntimeClass of pods that ask for none."""
    allowed_runtime_classes: tuple[str, ...] = ()
    """Other RuntimeClasses that tasks and pools may ask for."""
    cpu_request_fraction: Annotated[float, Field(ge=0, le=1)] = 0.1
    """What a sandbox reserves of its CPU limit. Below 1, nodes are overcommitted."""
    memory_request_fraction: Annotated[float, Field(ge=0, le=1)] = 0.25
    """What a sandbox reserves of its memory limit."""
    service_account: str | None = None
    """Service account of sandbox pods, for image pull secrets; its token is never mounted."""
    late_secrets: tuple[str, ...] = ()
    """Namespaces whose Secrets it may read, so that tasks with secretRefs can use waiting sandboxes."""
    runner_sources: tuple[str, ...] = ()
    """Label selectors (``key=value``) of pods of the operator's namespace that may reach runners, beside its own."""
    verify_network_policy: bool = True
    """Prove at start, with a pod of its own, that the cluster enforces NetworkPolicies."""
    require_network_policy: bool = False
    """Run nothing until that proof has succeeded."""

    # --- policy ---
    policy_file: str | None = None
    """YAML file with the policy that tasks are held against; absent: the default."""

    # --- life ---
    lease_seconds: Annotated[float, Field(ge=2, le=3600)] = 8
    """How long a Lease holds without being renewed: the longest time without an active operator."""
    leader_election: bool = True
    """False: there is only ever one."""
    sweep_seconds: _Seconds = 30
    """How often everything is looked at again, whether or not an event came."""
    pod_start_seconds: _Seconds = 300
    """How long a cold pod may take until its runner answers."""
    linger_seconds: _Seconds = 900
    """How long a runner keeps a result that nobody has fetched."""
    status_output_bytes: Annotated[int, Field(ge=1024, le=262144)] = 65536
    """Bytes of stdout, and of stderr, that a status keeps."""
    status_bytes: Annotated[int, Field(ge=65536, le=1_000_000)] = 768 * 1024
    """Bytes of a whole status; etcd takes 1.5 MiB for an object."""

    # --- artifacts ---
    artifacts_url: Annotated[str, Field(pattern="://")] | None = None
    """Where what is too large for a status is kept, the same place as the gateway's, such as s3://bucket/prefix;
    absent: nowhere, and it is refused."""
    artifacts_task_size: Annotated[int, Field(ge=1024, le=1 << 40)] = 256 << 20
    """Bytes that one task may have there."""

    # --- serving ---
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = 9090
    """Prometheus metrics; 0: any free one."""
    health_port: Annotated[int, Field(ge=0, le=65535)] = 8080
    """/healthz and /readyz."""
    log_format: Annotated[str, Field(pattern="^(json|text)$")] = "json"
    """json or text."""

    @model_validator(mode="after")
    def _check(self) -> "Settings":
        if "*" in self.namespaces and len(self.namespaces) > 1:
            raise ValueError('namespaces: "*" stands for all; name no other beside it')
        return self
