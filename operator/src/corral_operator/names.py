"""Every name that the operator gives to something in a cluster, in one place."""

import hashlib

from corral.api import GROUP

#: On every sandbox pod; what the NetworkPolicy and the admission policies select by.
SANDBOX_LABEL = f"{GROUP}/sandbox"
#: The pool that a pod was made for.
POOL_LABEL = f"{GROUP}/pool"
#: Hash of what a pool's pods are made from; another one means the pod is outdated.
TEMPLATE_LABEL = f"{GROUP}/template"
#: UID of the task that a cold pod was made for.
TASK_LABEL = f"{GROUP}/task-uid"
#: Name of the task that a cold pod was made for, shortened to what a label takes; for people.
TASK_NAME_LABEL = f"{GROUP}/task"
#: Name of the execution (the step) that a cold pod was made for.
EXECUTION_LABEL = f"{GROUP}/execution"
#: Attempt that a cold pod was made for, from 1.
ATTEMPT_LABEL = f"{GROUP}/attempt"
MANAGED_BY = {"app.kubernetes.io/managed-by": "corral-operator"}

#: The container with the runner, or with the program of an image without one.
CONTAINER = "sandbox"
#: The policy that denies sandbox pods everything but to be reached by their owners.
NETWORK_POLICY = "corral-sandbox"
#: The Lease that the active operator holds.
LEASE = "corral-operator"
#: Who runs in the sandbox. Nobody's user: not 0, and not one that a node's files belong to.
SANDBOX_USER = 65532

_MOST_LABEL = 63


def cold_pod_name(task_name: str, task_uid: str, execution: str, attempt: int) -> str:
    """Return the pod name of one attempt: the same whoever asks, so that no crash can make a second pod.

    The readable part comes first; the digest, over everything that must differ, keeps two apart. A step's
    name may be as long as a pod's, so it is only in the digest.
    """
    digest = hashlib.sha256(f"{task_uid}/{execution}/{attempt}".encode()).hexdigest()[:12]
    return f"{task_name[: _MOST_LABEL - 13].rstrip('-.')}-{digest}"


def label_value(text: str) -> str:
    """Return a text as a label value: what a label cannot hold becomes a hyphen, and it is cut to 63 characters."""
    safe = "".join(character if character.isascii() and character.isalnum() else "-" for character in text)
    return safe[:_MOST_LABEL].strip("-")
