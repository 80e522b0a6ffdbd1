"""What the gateway writes on a task, or on a tool: whose it is, and which request made it. Pure."""

import hashlib
import re
from collections.abc import Mapping

from corral.api import AgentTask
from corral.catalogue.tool_versions import TOOL_VERSIONS_ANNOTATION
from corral.cluster.names import CALLER_LABEL

#: Whose a task is, in full, where a label does not take the name.
CALLER_ANNOTATION = "corral.dev/caller-name"
#: Which sending of a request made a task: the id that the gateway gave it.
SUBMISSION_ANNOTATION = "corral.dev/submission"
#: What was asked for, so that the same idempotency key with something else is noticed.
REQUEST_ANNOTATION = "corral.dev/request-sha256"
#: How programs spell a registered tool, ``read_file``, where its resource can only be called ``read-file``.
TOOL_NAME_ANNOTATION = "corral.dev/tool-name"

#: Nobody but the gateway writes these.
OWN_LABELS = frozenset({CALLER_LABEL})
OWN_ANNOTATIONS = frozenset(
    {
        CALLER_ANNOTATION,
        SUBMISSION_ANNOTATION,
        REQUEST_ANNOTATION,
        TOOL_NAME_ANNOTATION,
        TOOL_VERSIONS_ANNOTATION,
    }
)

_LABEL_VALUE = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", re.ASCII)
_ENCODED = "sub-"
#: How the names of tasks with idempotency keys begin.
KEYED = "keyed-"
#: 160 bits: nobody finds two names with one label.
_DIGITS = 40


def without(names: frozenset[str], given: Mapping[str, str]) -> dict[str, str]:
    """Return what somebody wrote on a task but for some names."""
    return {name: value for name, value in given.items() if name not in names}


def caller_label(caller: str) -> str:
    """Return a caller's name as a label value: itself where it is one, else a hash of it.

    No two callers have one label: a name that looks like a hash is hashed, too.
    """
    if _LABEL_VALUE.fullmatch(caller) and not caller.startswith(_ENCODED):
        return caller
    return _ENCODED + hashlib.sha256(caller.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]


def caller_stamps(caller: str) -> tuple[dict[str, str], dict[str, str]]:
    """Return the labels and the annotations that say whose a task is, or who registered a tool."""
    label = caller_label(caller)
    return {CALLER_LABEL: label}, {} if label == caller else {CALLER_ANNOTATION: caller}


def caller_of(labels: Mapping[str, str], annotations: Mapping[str, str]) -> str:
    """Return whose a task is; empty: nobody's of the gateway.

    The annotation counts only where it fits the label, which is what the cluster's admission guards.
    """
    label, name = labels.get(CALLER_LABEL, ""), annotations.get(CALLER_ANNOTATION, "")
    return name if name and caller_label(name) == label else label


def is_made_of(asked: AgentTask, taken: AgentTask) -> bool:
    """Whether a task was made of this sending of a request, and not of an earlier one with the same key."""
    return submission_of(taken) == asked.metadata.uid


def submission_of(task: AgentTask) -> str:
    """Return the id that a task had when it was let in; in a cluster it is given another with its first version.

    It counts only on tasks of callers, as the label says that nobody else can write: what kubectl made has its own.
    """
    given = (
        task.metadata.annotations.get(SUBMISSION_ANNOTATION) if CALLER_LABEL in task.metadata.labels else None
    )
    return given or task.metadata.uid or ""


def keyed_name(caller: str, key: str) -> str:
    """Return the name of the task of an idempotency key: the same whichever gateway is asked, however often."""
    digest = hashlib.sha256(f"{caller_label(caller)}\n{key}".encode()).hexdigest()
    return f"{KEYED}{digest[:_DIGITS]}"
