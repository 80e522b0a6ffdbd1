"""What is asked of a cluster: a few calls on raw JSON."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ObjectKey:
    """Which object: its name, and its UID, because a name can come again."""

    namespace: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind of object, as the API's paths name it."""

    group: str
    version: str
    plural: str
    namespaced: bool = True

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str = "") -> str:
        """Return the path of one object, or of the whole kind."""
        parts = ["/apis", self.group, self.version] if self.group else ["/api", self.version]
        if namespace is not None:
            parts += ["namespaces", quote(namespace, safe="")]
        parts.append(self.plural)
        if name is not None:
            # It may be what somebody wrote, and is a name and nothing else.
            parts.append(quote(name, safe=""))
        if subresource:
            parts.append(subresource)
        return "/".join(parts)


AGENT_TASKS = Resource("corral.dev", "v1alpha1", "agenttasks")
TOOLS = Resource("corral.dev", "v1alpha1", "tools")
POOLS = Resource("corral.dev", "v1alpha1", "sandboxpools")
PODS = Resource("", "v1", "pods")
SECRETS = Resource("", "v1", "secrets")
EVENTS = Resource("events.k8s.io", "v1", "events")
LEASES = Resource("coordination.k8s.io", "v1", "leases")
NETWORK_POLICIES = Resource("networking.k8s.io", "v1", "networkpolicies")
#: Asked, and not kept: see ``KubernetesCluster.review``.
TOKEN_REVIEWS = Resource("authentication.k8s.io", "v1", "tokenreviews", namespaced=False)
SUBJECT_ACCESS_REVIEWS = Resource("authorization.k8s.io", "v1", "subjectaccessreviews", namespaced=False)


class ClusterError(Exception):
    """Base of what a call to the cluster can end with."""


class Unavailable(ClusterError):  # noqa: N818 - what the API server is
    """No answer, or one that says "later": whether a write happened is not known.

    Attributes:
        retry_after_seconds: what the API server asks for, None if it did not say.
    """

    def __init__(self, message: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class Refused(ClusterError):  # noqa: N818 - what happened
    """The API server refused; nothing was written.

    Attributes:
        status: HTTP status.
        reason: the machine-readable reason of the Status object, such as ``Forbidden``.
        body: the whole Status object.
    """

    def __init__(self, status: int, reason: str, message: str, body: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.body = body


class Gone(Refused):
    """A watch cannot go on from there: the API server has forgotten what was before. List again."""


class NotFound(Refused):
    """There is no such object."""


class Conflict(Refused):
    """The object is another than it was thought to be, or it changed meanwhile."""


class AlreadyExists(Refused):
    """An object of this name is there."""


class Cluster(Protocol):
    """The cluster. Every call may raise ``Unavailable`` and ``Refused``."""

    async def get(self, resource: Resource, namespace: str, name: str) -> Json:
        """Read one object."""
        ...

    def pages(
        self, resource: Resource, namespace: str | None, *, label_selector: str = "", field_selector: str = ""
    ) -> AsyncIterator[tuple[list[Json], int]]:
        """Read all objects, page by page, each with the resourceVersion of the whole list.

        One namespace, or every one that may be read. Whoever takes a page empties it: it is held until the next
        one has come.
        """
        ...

    async def create(self, resource: Resource, namespace: str, body: Mapping[str, Any]) -> Json:
        """Create an object and return it."""
        ...

    async def replace(self, resource: Resource, namespace: str, body: Mapping[str, Any]) -> Json:
        """Write a whole object; its ``resourceVersion`` must still be the one in ``body``."""
        ...

    async def patch(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        body: Mapping[str, Any],
        *,
        subresource: str = "",
    ) -> Json:
        """Merge into an object (JSON merge patch). ``metadata.resourceVersion`` and ``uid`` in it are checked."""
        ...

    async def delete(self, resource: Resource, key: ObjectKey, *, grace_seconds: int | None = None) -> None:
        """Delete exactly this object, by UID. That it is gone already is no error."""
        ...

    async def logs(self, namespace: str, pod: str, container: str, limit_bytes: int, stream: str) -> bytes:
        """Read what a container printed, from the beginning. ``stream``: Stdout, Stderr, or All together."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


def _nobody_waits() -> None:
    """Tell nobody."""


class WatchedCluster(Cluster, Protocol):
    """A cluster that also tells what changes."""

    def watch(
        self,
        resource: Resource,
        namespace: str | None,
        version: str,
        *,
        seconds: int,
        field_selector: str = "",
        on_open: Callable[[], None] = _nobody_waits,
    ) -> AsyncGenerator[Json]:
        """Yield what changes, each a ``type`` (ADDED, MODIFIED, DELETED, BOOKMARK) and an ``object``.

        Args:
            resource: the kind.
            namespace: one, or None for every one that may be read.
            version: resourceVersion to go on after; empty: all that is there comes first, as ADDED.
            seconds: the API server ends the watch then. One that is still silently open some seconds later stands
                still without being closed, and is given up.
            field_selector: such as ``metadata.name=box``.
            on_open: called when the API server has agreed.

        Raises:
            Gone: it cannot go on from this version.
            Unavailable: the connection broke, or stood still.
        """
        ...
