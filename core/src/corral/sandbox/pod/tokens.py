"""The tokens of a pod's runner: derived from one key, which no sandbox ever sees.

A pod carries only their hashes, and they follow from its name, so that an operator that starts anew, or another
replica of it, can speak to every pod without having stored anything.
"""

import hashlib
import hmac
from dataclasses import dataclass
from typing import Literal

#: Bytes of the key.
KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class PodTokens:
    """The two tokens of one pod: one may start and cancel, one may only read."""

    start: str
    read: str

    @classmethod
    def of(cls, key: bytes, namespace: str, pod: str) -> "PodTokens":
        """Derive them. Pods of one name are never two tasks': cold names come from a task's UID, others are random."""
        return cls(_derive(key, "start", namespace, pod), _derive(key, "read", namespace, pod))

    @property
    def start_sha256(self) -> str:
        """What the runner is told of the start token."""
        return token_sha256(self.start)

    @property
    def read_sha256(self) -> str:
        """What the runner is told of the read token."""
        return token_sha256(self.read)


def runner_proof(start_sha256: str, nonce: str) -> str:
    """Return what a runner answers to ``prove``: only the pod was told the hash of its start token."""
    return hmac.new(start_sha256.encode(), f"runner/{nonce}".encode(), hashlib.sha256).hexdigest()


def token_sha256(token: str) -> str:
    """Return the hash of a token, in hexadecimal: all that its pod is told of it."""
    return hashlib.sha256(token.encode()).hexdigest()


def _derive(key: bytes, purpose: Literal["start", "read"], namespace: str, pod: str) -> str:
    return hmac.new(key, f"corral/{purpose}/{namespace}/{pod}".encode(), hashlib.sha256).hexdigest()
