"""From what the API server says to what a caller is told. Pure."""

import math
import re
from http import HTTPStatus

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


def away(error: ClusterError | None = None) -> ProblemError:
    """Return what is said while the API server does not answer."""
    asked = error.retry_after_seconds if isinstance(error, Unavailable) else None
    return ProblemError(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "ClusterUnavailable",
        "the cluster does not answer",
        remedy="try again after the time that Retry-After names; with an Idempotency-Key nothing runs twice",
        retry_after_seconds=_AWAY_SECONDS if asked is None else max(1, math.ceil(asked)),
    )


def problem_of(error: ClusterError, namespace: str) -> ProblemError:  # noqa: PLR0911 - one for each
    """Return what a caller is told whose task the API server did not take.

    Args:
        error: what it said.
        namespace: where the task was to be.
    """
    if not isinstance(error, Refused):
        return away(error)
    message = str(error)
    if _QUOTA.search(message):
        return ProblemError(
            HTTPStatus.TOO_MANY_REQUESTS,
            "QuotaExceeded",
            f"the quota of the namespace {namespace} is used up: {message}",
            remedy="wait until tasks have ended or are deleted, or ask for a larger quota",
            retry_after_seconds=_QUOTA_SECONDS,
        )
    if _ADMISSION.search(message):
        return ProblemError(
            HTTPStatus.FORBIDDEN,
            "AdmissionRefused",
            message,
            remedy="the message names the rule; ask whoever runs the cluster, or ask for less",
        )
    if error.status == HTTPStatus.UNPROCESSABLE_ENTITY:
        return ProblemError(
            HTTPStatus.UNPROCESSABLE_ENTITY, "InvalidSpec", message, problems=tuple(_causes(error))
        )
    if error.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return ProblemError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            "BodyTooLarge",
            "the task is larger than the cluster takes",
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


def _causes(error: Refused) -> list[Problem]:
    details = error.body.get("details")
    causes = details.get("causes") if isinstance(details, dict) else None
    return [
        Problem(str(cause.get("field") or ""), str(cause.get("message") or "is wrong"))
        for cause in causes or ()
        if isinstance(cause, dict)
    ]
