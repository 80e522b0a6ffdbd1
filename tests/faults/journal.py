"""What operators asked the API server for, as the proxy saw it: exact, because every request passes there."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qs

#: Where in a write something happens: it never reached the API server; it was done and its answer is lost; it was
#: done and answered.
Stage = Literal["unwritten", "unanswered", "answered"]

_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


@dataclass(frozen=True, slots=True)
class Request:
    """A request in the API's own terms; ``name`` is empty for whole kinds."""

    verb: str
    resource: str
    namespace: str
    name: str
    subresource: str

    @property
    def is_write(self) -> bool:
        """Whether it changes something."""
        return self.verb in {"create", "update", "patch", "delete"}

    @property
    def kind(self) -> str:
        """Which kind of request, as ``patch agenttasks/status``."""
        return f"{self.verb} {self.resource}" + (f"/{self.subresource}" if self.subresource else "")

    @classmethod
    def parse(cls, method: str, path: str, query: str) -> "Request":
        """Read ``/api/v1/…`` and ``/apis/GROUP/VERSION/…``; other paths (discovery) have no resource."""
        parts = path.strip("/").split("/")
        rest = parts[2:] if parts[0] == "api" else parts[3:]
        namespace = ""
        if len(rest) > 2 and rest[0] == "namespaces":
            namespace, rest = rest[1], rest[2:]
        resource, name, subresource = (*rest, "", "", "")[:3]
        verb = _VERBS.get(method, "get" if name else "list")
        if method == "GET" and parse_qs(query).get("watch", ["false"])[0] in {"true", "1"}:
            verb = "watch"
        return cls(verb, resource, namespace, name, subresource)


@dataclass(slots=True)
class Write:
    """One write, and what became of it."""

    client: str
    #: From 1, per client; writes to Leases, which come with the clock, are not numbered and have 0.
    number: int
    request: Request
    #: The API server's status; None: it was never asked.
    status: int | None = None
    #: Whether the operator was given that status.
    answered: bool = False
    #: What the proxy did to it.
    fault: str = ""


class Journal:
    """Every write, in order."""

    def __init__(self) -> None:
        self.writes: list[Write] = []
        self._numbers: Counter[str] = Counter()

    def begin(self, client: str, request: Request) -> Write:
        """Note a write before anything is done about it."""
        number = 0
        if request.resource != "leases":
            self._numbers[client] += 1
            number = self._numbers[client]
        write = Write(client, number, request)
        self.writes.append(write)
        return write

    def done(self) -> Iterable[Write]:
        """Return those that changed something."""
        return (write for write in self.writes if write.status is not None and write.status < 300)

    def totals(self) -> dict[str, int]:
        """Return how often each kind of write was done, as ``create pods`` or ``patch agenttasks/status``."""
        return dict(Counter(write.request.kind for write in self.done()))
