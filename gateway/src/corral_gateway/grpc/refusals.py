"""Refusals as gRPC says them: a status code, and details of ``google.rpc`` that programs read. Pure."""

from http import HTTPStatus
from types import MappingProxyType

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2 as details_pb
from google.rpc.status_pb2 import Status
from grpc import StatusCode

from corral_gateway.problems import ProblemError

#: Whose reasons these are.
DOMAIN = "corral.dev"

_CODES = MappingProxyType(
    {
        HTTPStatus.BAD_REQUEST: StatusCode.INVALID_ARGUMENT,
        HTTPStatus.UNAUTHORIZED: StatusCode.UNAUTHENTICATED,
        HTTPStatus.PAYMENT_REQUIRED: StatusCode.RESOURCE_EXHAUSTED,
        HTTPStatus.FORBIDDEN: StatusCode.PERMISSION_DENIED,
        HTTPStatus.NOT_FOUND: StatusCode.NOT_FOUND,
        HTTPStatus.REQUEST_TIMEOUT: StatusCode.DEADLINE_EXCEEDED,
        HTTPStatus.CONFLICT: StatusCode.ALREADY_EXISTS,
        HTTPStatus.PRECONDITION_FAILED: StatusCode.FAILED_PRECONDITION,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE: StatusCode.RESOURCE_EXHAUSTED,
        HTTPStatus.UNPROCESSABLE_ENTITY: StatusCode.INVALID_ARGUMENT,
        HTTPStatus.TOO_MANY_REQUESTS: StatusCode.RESOURCE_EXHAUSTED,
        HTTPStatus.INTERNAL_SERVER_ERROR: StatusCode.INTERNAL,
        HTTPStatus.NOT_IMPLEMENTED: StatusCode.UNIMPLEMENTED,
        HTTPStatus.BAD_GATEWAY: StatusCode.UNAVAILABLE,
        HTTPStatus.SERVICE_UNAVAILABLE: StatusCode.UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT: StatusCode.DEADLINE_EXCEEDED,
        HTTPStatus.INSUFFICIENT_STORAGE: StatusCode.UNAVAILABLE,
    }
)
#: A status travels in a header block, of which a client takes 8 KiB by default: the message percent-encoded, the
#: details as base64 with the message once more.
_MESSAGE_BYTES = 512
_DETAILS_BYTES = 2560
_FIELD_BYTES = 256


def code_of(error: ProblemError) -> StatusCode:
    """Return the gRPC status code of a refusal."""
    otherwise = StatusCode.INTERNAL if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR else None
    return _CODES.get(error.status, otherwise or StatusCode.FAILED_PRECONDITION)


def status_of(error: ProblemError, request_id: str) -> Status:
    """Return a refusal with its details: ErrorInfo, RequestInfo, and where they apply RetryInfo and BadRequest.

    Args:
        error: what is refused, and why.
        request_id: of the request, as in the logs.
    """
    # A refusal of many fields says the first in words; all of them are in the details.
    detail = error.detail
    if error.problems and error.reason == "InvalidSpec":
        detail = f"{detail}: {error.problems[0]}"
    info = details_pb.ErrorInfo(reason=error.reason, domain=DOMAIN)
    if error.remedy:
        info.metadata["remedy"] = _short(error.remedy)
    status = Status(code=code_of(error).value[0], message=_cut(detail, _MESSAGE_BYTES))
    _add(status, info)
    _add(status, details_pb.RequestInfo(request_id=request_id))
    if error.retry_after_seconds is not None:
        _add(status, details_pb.RetryInfo(retry_delay=Duration(seconds=error.retry_after_seconds)))
    violations = _violations(error, _DETAILS_BYTES - status.ByteSize())
    if violations.field_violations:
        _add(status, violations)
    return status


def _violations(error: ProblemError, room: int) -> details_pb.BadRequest:
    """Return as many of the wrong fields as there is room for."""
    found = details_pb.BadRequest()
    for problem in error.problems:
        told = problem.message if problem.remedy is None else f"{problem.message}; {problem.remedy}"
        violation = details_pb.BadRequest.FieldViolation(
            field=_short(problem.path), description=_short(told), reason=_constant(error.reason)
        )
        room -= violation.ByteSize() + 16
        if room < 0:
            break
        found.field_violations.append(violation)
    return found


def _add(status: Status, detail: Message) -> None:
    packed = AnyMessage()
    packed.Pack(detail)
    status.details.append(packed)


def _constant(reason: str) -> str:
    """Return a reason as google.rpc writes those of fields: INVALID_SPEC."""
    return "".join(f"_{letter}" if letter.isupper() else letter for letter in reason).strip("_").upper()


def _short(text: str) -> str:
    return _cut(text, _FIELD_BYTES)


def _cut(text: str, most_bytes: int) -> str:
    # Lone surrogates have no place in protobuf; JSON over HTTP could have brought them.
    return text.encode(errors="replace")[:most_bytes].decode(errors="ignore")
