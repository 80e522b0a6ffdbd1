"""From what the API server says to what a caller is told. Pure."""

import math
import re
from http import HTTPStatus
from typing import Literal

from corral.api import Problem
from corral.cluster.port import ClusterError, NotFound, Refused, Unavailable
from corral_gateway.problems import ProblemError

#: An API server that restarts is back after some seconds.
_AWAY_SECONDS = 5
#: Room in a quota comes when a task ends; a default one may take half a minute.
_QUOTA_SECONDS = 30

_QUOTA = re.compile(r"exceeded quota|limited to \d+", re.ASCII)
_ADMISSION = re.compile(r"ValidatingAdmissionPolicy|admission webhook|violates PodSecurity")
_TERMINATING = "because it is being terminated"
#: How the messages of Corral's own admission policies begin: with the field that is wrong.
_FIELD = re.compile(r"denied request: ((?:spec|metadata)(?:\.\w+|\[[^\]]*\])*):? (.+)", re.ASCII | re.DOTALL)

#: What is written, and what makes room for more of it.
What = Literal["task", "tool"]
_MAKES_ROOM = {"task": "wait until tasks have ended or are deleted", "tool": "delete some"}
_AGAIN = {"task": "; with an Idempotency-Key nothing runs twice", "tool": "; PUT once more does no harm"}


def away(error: ClusterError | None = None, what: What = "task") -> ProblemError:
    """Return what is said while the API server does not answer."""
    asked = error.retry_after_seconds if isinstance(error, Unavailable) else None
    return ProblemError(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "ClusterUnavailable",
        "the cluster does not answer",
        remedy=f"try again after the time that Retry-After names{_AGAIN[what]}",
        retry_after_seconds=_AWAY_SECONDS if asked is None else max(1, math.ceil(asked)),
    )


def problem_of(  # noqa: PLR0911 - one for each
    error: ClusterError, namespace: str, what: What = "task"
) -> ProblemError:
    """Return what a caller is told whose task or tool the API server did not take.

    Args:
        error: what it said.
        namespace: where it was to be.
        what: it was.
    """
    if not isinstance(error, Refused):
        return away(error, what)
    message = str(error)
    if _QUOTA.search(message):
        return ProblemError(
            HTTPStatus.TOO_MANY_REQUESTS,
            "QuotaExceeded",
            f"the quota of the namespace {namespace} is used up: {message}",
            remedy=f"{_MAKES_ROOM[what]}, or ask for a larger quota",
            retry_after_seconds=_QUOTA_SECONDS,
        )
    if _ADMISSION.search(message):
        return ProblemError(
            HTTPStatus.FORBIDDEN,
            "AdmissionRefused",
            message,
            remedy="the message names the rule; ask whoever runs the cluster, or ask for less",
            problems=_denied(message),
        )
    if error.status == HTTPStatus.UNPROCESSABLE_ENTITY:
        return ProblemError(
            HTTPStatus.UNPROCESSABLE_ENTITY, "InvalidSpec", message, problems=tuple(_causes(error))
        )
    if error.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return ProblemError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            "BodyTooLarge",
            f"the {what} is larger than the cluster takes",
            remedy="send less; larger content goes by reference",
        )
    if isinstance(error, NotFound) or _TERMINATING in message:
        return ProblemError(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "NamespaceMissing",
            f"the namespace {namespace} is not there, or Corral's definitions are not installed",
            remedy="whoever runs the cluster creates it; an admin corrects CORRAL_NAMESPACE",
            retry_after_seconds=_QUOTA_SECONDS,
        )
    # What is wrong is between the gateway and the cluster; the names in such a message are no caller's business.
    return ProblemError(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "ClusterRefused",
        f"the cluster refuses the gateway itself ({error.status} {error.reason})",
        remedy="the gateway's log has the whole message; its account needs the rights of docs/deployment.md",
        retry_after_seconds=_QUOTA_SECONDS,
    )


def _denied(message: str) -> list[Problem]:
    """Return the field that an admission policy names; nothing where somebody else's names none."""
    found = _FIELD.search(message)
    return [] if found is None else [Problem(found[1], found[2])]


def _causes(error: Refused) -> list[Problem]:
    details = error.body.get("details")
    causes = details.get("causes") if isinstance(details, dict) else None
    return [
        Problem(str(cause.get("field") or ""), str(cause.get("message") or "is wrong"))
        for cause in causes or ()
        if isinstance(cause, dict)
    ]
