"""The key that runners' tokens are derived from: a Secret of the operator's own namespace, made once."""

import base64
import secrets

from corral.cluster.names import RUNNER_KEY_SECRET
from corral.cluster.port import SECRETS, AlreadyExists, Cluster, NotFound
from corral.sandbox.pod.tokens import KEY_BYTES
from corral_operator.names import MANAGED_BY


async def runner_key(cluster: Cluster, namespace: str) -> bytes:
    """Return the key, made if there is none.

    Raises:
        ClusterError: it can be neither read nor made.
        ValueError: the Secret has no usable key.
    """
    try:
        secret = await cluster.get(SECRETS, namespace, RUNNER_KEY_SECRET)
    except NotFound:
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": RUNNER_KEY_SECRET, "namespace": namespace, "labels": dict(MANAGED_BY)},
            "type": "Opaque",
            "data": {"key": base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()},
        }
        try:
            secret = await cluster.create(SECRETS, namespace, body)
        except AlreadyExists:  # another replica was faster
            secret = await cluster.get(SECRETS, namespace, RUNNER_KEY_SECRET)
    key = base64.b64decode((secret.get("data") or {}).get("key") or "")
    if len(key) < KEY_BYTES:
        raise ValueError(
            f"the Secret {namespace}/{RUNNER_KEY_SECRET} has no key of {KEY_BYTES} bytes under `key`; "
            "delete it, and the operator makes a new one"
        )
    return key
