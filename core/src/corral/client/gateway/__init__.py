"""The client of a gateway: tasks and tools over HTTP. Needs ``corral[client]``."""

from corral.client.gateway.answers import AuditRecord, Identity, TaskFile, ToolResult
from corral.client.gateway.asynchronous import AsyncGatewayClient
from corral.client.gateway.errors import (
    AnswerError,
    ConflictError,
    ForbiddenError,
    GatewayError,
    GatewayFaultError,
    InvalidRequestError,
    NotFoundError,
    NotInstalledError,
    RateLimitedError,
    RefusedError,
    TimedOutError,
    UnauthenticatedError,
    UnavailableError,
    UnreachableError,
)
from corral.client.gateway.events import (
    ExecutionEnded,
    ExecutionStarted,
    LogText,
    OtherEvent,
    OutputPiece,
    ProgressMade,
    TaskEvent,
    TaskFinished,
)
from corral.client.gateway.synchronous import GatewayClient

__all__ = [
    "AnswerError",
    "AsyncGatewayClient",
    "AuditRecord",
    "ConflictError",
    "ExecutionEnded",
    "ExecutionStarted",
    "ForbiddenError",
    "GatewayClient",
    "GatewayError",
    "GatewayFaultError",
    "Identity",
    "InvalidRequestError",
    "LogText",
    "NotFoundError",
    "NotInstalledError",
    "OtherEvent",
    "OutputPiece",
    "ProgressMade",
    "RateLimitedError",
    "RefusedError",
    "TaskEvent",
    "TaskFile",
    "TaskFinished",
    "TimedOutError",
    "ToolResult",
    "UnauthenticatedError",
    "UnavailableError",
    "UnreachableError",
]
