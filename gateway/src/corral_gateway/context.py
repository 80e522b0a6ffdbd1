"""What is known of one request, whichever door it came through; more as it goes on."""

import uuid
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from corral_gateway.audit.records import RequestInput
    from corral_gateway.identity.caller import Caller
    from corral_gateway.rate_limits import Standing


def _new_id() -> str:
    return str(uuid.uuid4())


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class RequestContext:
    """One request, HTTP or gRPC."""

    transport: Literal["http", "grpc"]
    #: An HTTP method, or a gRPC method such as ``ExecuteTask``.
    method: str
    #: The peer's address; empty where it has none.
    source: str
    user_agent: str = ""
    #: In every answer, log line and audit record about it.
    id: str = field(default_factory=_new_id)
    #: As it is declared, never as it was asked for: a path may hold anything. Empty until it is known.
    route: str = ""
    #: What exactly was asked for: the path, which may hold anything. For the audit.
    target: str = ""
    began: datetime = field(default_factory=_now)
    #: None until it is known who calls.
    caller: "Caller | None" = None
    #: Where the caller stands with the limits; None until they were looked at.
    standing: "Standing | None" = None
    #: Its place in a trace, as W3C Trace Context writes it; None: nobody traces.
    traceparent: str | None = None
    #: Why the tool that it waited for did not end well; None: it did, or none was waited for.
    tool_reason: str | None = None
    #: Why it was refused; None: it was not.
    reason: str | None = None
    #: It was let in, and its attempt is on record if it may change anything.
    entered: bool = False
    #: Whose open requests it is one of; None: nobody's.
    counted_for: str | None = None
    #: For how many things it waits that its caller asked to wait for: their time is not the handler's.
    waiting: int = 0
    #: It was answered, or whoever sent it has gone.
    is_over: bool = False
    #: The body, as the audit remembers it; None: none was read.
    input: "RequestInput | None" = None


#: The request that is worked on here; None: none is. What logs and traces, looks here.
CURRENT: ContextVar[RequestContext | None] = ContextVar("corral_request", default=None)
