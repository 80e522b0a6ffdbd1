"""What can go wrong between a program and a gateway: one hierarchy, the fields of the gateway's problem+json."""

from collections.abc import Mapping, Sequence
from typing import Any

from corral.api import CorralError, Problem


class GatewayError(CorralError):
    """A request to a gateway had no good answer.

    Attributes:
        reason: for programs; of the gateway's refusals, or the class's own.
        detail: one sentence for people.
        remedy: what to do about it, if that is known.
        status: HTTP status of the answer; None: there was none.
        problems: field by field, all that is wrong with the request.
        retry_after_seconds: after which it may succeed.
        request_id: under which the gateway's log has it.
        task_id: the task that it was about, where one had been taken in: it may still run.
    """

    reason = "GatewayError"

    def __init__(
        self,
        detail: str,
        *,
        reason: str | None = None,
        remedy: str | None = None,
        status: int | None = None,
        problems: Sequence[Problem] = (),
        retry_after_seconds: float | None = None,
        request_id: str | None = None,
    ) -> None:
        self.reason = reason or type(self).reason
        self.detail = detail
        self.remedy = remedy
        self.status = status
        self.problems = tuple(problems)
        self.retry_after_seconds = retry_after_seconds
        self.request_id = request_id
        self.task_id: str | None = None
        super().__init__(detail)

    def __str__(self) -> str:
        told = [self.detail, *(str(problem) for problem in self.problems)]
        text = "; ".join(dict.fromkeys(told))
        return f"{text} ({self.remedy})" if self.remedy else text


class NotInstalledError(GatewayError):
    """The part of the package that speaks to gateways is not installed."""

    reason = "NotInstalled"


class UnreachableError(GatewayError):
    """Nothing answers there, for as long as the client is patient. Whether the request arrived is not known."""

    reason = "Unreachable"


class TimedOutError(GatewayError, TimeoutError):
    """The time that the caller gave is over."""

    reason = "TimedOut"


class AnswerError(GatewayError):
    """What answered is no gateway, or a newer one that this client does not understand."""

    reason = "UnreadableAnswer"


class RefusedError(GatewayError):
    """The gateway answered, and did not do it."""

    reason = "Refused"


class InvalidRequestError(RefusedError):
    """The request is wrong and will be at every try; ``problems`` says where (400, 413, 422 and their like)."""


class UnauthenticatedError(RefusedError):
    """No key, or one that opens nothing (401)."""


class ForbiddenError(RefusedError):
    """The key's role or grants do not allow it (403)."""


class NotFoundError(RefusedError):
    """There is no such task, tool or file of this caller (404, 410)."""


class ConflictError(RefusedError):
    """It contradicts something that is there, such as an idempotency key used for another request (409)."""


class RateLimitedError(RefusedError):
    """Too often; the client has waited for as long as it is patient (429)."""


class UnavailableError(RefusedError):
    """No capacity, or no gateway behind the proxy (502, 503, 504)."""


class GatewayFaultError(RefusedError):
    """The gateway failed; ``request_id`` finds why in its log (500 and their like)."""


_CLASSES: Mapping[int, type[RefusedError]] = {
    401: UnauthenticatedError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    410: NotFoundError,
    429: RateLimitedError,
    502: UnavailableError,
    503: UnavailableError,
    504: UnavailableError,
}


def class_of(status: int) -> type[RefusedError]:
    """Return the class of a refusal with this HTTP status."""
    return _CLASSES.get(status, GatewayFaultError if status >= 500 else InvalidRequestError)


def refusal(
    status: int, body: Any, *, retry_after_seconds: float | None, request_id: str | None
) -> RefusedError:
    """Return the error for an answer that refuses.

    Args:
        status: of HTTP, from 400.
        body: the decoded problem+json; anything else: whoever answered is not the gateway, a proxy for one.
        retry_after_seconds: from the header.
        request_id: from the header.
    """
    kind = class_of(status)
    if not isinstance(body, dict) or not isinstance(body.get("reason"), str):
        return kind(
            f"HTTP status {status}, without the words of a gateway",
            reason="NoProblem",
            remedy="look whether the URL is the gateway's and what stands in front of it",
            status=status,
            retry_after_seconds=retry_after_seconds,
            request_id=request_id,
        )
    problems = body.get("problems")
    return kind(
        str(body.get("detail") or body["reason"]),
        reason=body["reason"],
        remedy=_text(body.get("remedy")),
        status=status,
        problems=[
            Problem(str(one.get("path", "")), str(one.get("message", "")), remedy=_text(one.get("remedy")))
            for one in (problems if isinstance(problems, list) else ())
            if isinstance(one, dict)
        ],
        retry_after_seconds=retry_after_seconds,
        request_id=_text(body.get("requestId")) or request_id,
    )


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
