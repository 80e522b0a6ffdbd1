"""A9: what the API server says against a task reaches its caller with a reason, and what to do."""

from typing import Any

import pytest

from corral.cluster.port import ClusterError, NotFound, Refused, Unavailable
from corral_gateway.tasks.cluster.refusals import problem_of


def _refused(status: int, message: str, reason: str = "", **body: Any) -> Refused:
    kind = NotFound if status == 404 else Refused
    return kind(status, reason, message, body)


@pytest.mark.parametrize(
    ("error", "status", "reason", "retry_after"),
    [
        (Unavailable("GET /: ClientConnectorError"), 503, "ClusterUnavailable", 5),
        (Unavailable("429 slow down", 1.5), 503, "ClusterUnavailable", 2),
        (
            _refused(
                403, 'agenttasks.corral.dev "t" is forbidden: exceeded quota: small, requested: 1, used: 5'
            ),
            429,
            "QuotaExceeded",
            30,
        ),
        (
            _refused(422, "ValidatingAdmissionPolicy 'corral-tasks' with binding 'b' denied request: no"),
            403,
            "AdmissionRefused",
            None,
        ),
        (_refused(403, 'admission webhook "x" denied the request: no'), 403, "AdmissionRefused", None),
        (_refused(422, "spec.limits: Invalid value", "Invalid"), 422, "InvalidSpec", None),
        (_refused(413, "limit is 3145728"), 413, "BodyTooLarge", None),
        (_refused(404, 'namespaces "team" not found'), 503, "NamespaceMissing", 30),
        (
            _refused(403, "unable to create new content in namespace team because it is being terminated"),
            503,
            "NamespaceMissing",
            30,
        ),
        (_refused(403, 'User "secret-name" cannot create', "Forbidden"), 503, "ClusterRefused", 30),
        (_refused(401, "Unauthorized", "Unauthorized"), 503, "ClusterRefused", 30),
    ],
)
def test_A9_each_refusal_of_the_api_server_has_a_reason(
    error: ClusterError, status: int, reason: str, retry_after: int | None
) -> None:
    problem = problem_of(error, "team")
    assert (problem.status, problem.reason, problem.retry_after_seconds) == (status, reason, retry_after)
    assert "secret-name" not in problem.detail
    assert problem.remedy or problem.reason == "InvalidSpec"


def test_A9_the_fields_that_are_wrong_are_named() -> None:
    causes = [{"field": "spec.limits.memory", "message": "too much"}, "junk"]
    problem = problem_of(_refused(422, "is invalid", details={"causes": causes}), "team")
    assert [(one.path, one.message) for one in problem.problems] == [("spec.limits.memory", "too much")]
