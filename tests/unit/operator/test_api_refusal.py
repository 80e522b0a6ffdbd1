"""What the API server says no to, and what the task is told."""

import pytest

from corral.api import Reason
from corral_operator.decisions.api_refusal import Later, api_refusal
from corral_operator.decisions.observed import Refusal

QUOTA = (
    'pods "totals-1" is forbidden: exceeded quota: team, requested: pods=1, used: pods=10, limited: pods=10'
)
POLICY = "ValidatingAdmissionPolicy 'no-latest' with binding 'everywhere' denied request: name a version"


@pytest.mark.parametrize(
    ("status", "reason", "message", "expected"),
    [
        (403, "Forbidden", QUOTA, Reason.QUOTA_EXCEEDED),
        (
            403,
            "Forbidden",
            'pods "x" is forbidden: violates PodSecurity "restricted:latest": privileged',
            Reason.ADMISSION_REFUSED,
        ),
        (422, "Invalid", f'pods "x" is forbidden: {POLICY}', Reason.ADMISSION_REFUSED),
        (
            422,
            "Invalid",
            "pods \"x\" is forbidden: ValidatingAdmissionPolicy 'p' denied request: no",
            Reason.ADMISSION_REFUSED,
        ),
        (
            400,
            "BadRequest",
            'admission webhook "v.example.com" denied the request: no',
            Reason.ADMISSION_REFUSED,
        ),
        (
            403,
            "Forbidden",
            'pods "x" is forbidden: maximum memory usage per Container is 1Gi, but limit is 2Gi',
            Reason.ADMISSION_REFUSED,
        ),
        (
            403,
            "Forbidden",
            'pods "x" is forbidden: unable to create new content in namespace team because it is being terminated',
            Reason.CANCELLED,
        ),
        (404, "NotFound", 'namespaces "team" not found', Reason.CANCELLED),
        (422, "Invalid", 'Pod "x" is invalid: spec.containers[0].image: Required value', Reason.INVALID_SPEC),
        (413, "RequestEntityTooLarge", "Request entity too large", Reason.INVALID_SPEC),
        (
            403,
            "Forbidden",
            'pods "x" is forbidden: pod rejected: RuntimeClass "kata" not found',
            Reason.INVALID_SPEC,
        ),
        (
            403,
            "Forbidden",
            'pods is forbidden: User "system:serviceaccount:corral:op" cannot create resource "pods" in API group ""',
            Reason.SANDBOX_FAILED,
        ),
        (
            403,
            "Forbidden",
            'pods "x" is forbidden: error looking up service account team/sandbox: serviceaccount "sandbox" not found',
            Reason.SANDBOX_FAILED,
        ),
        (405, "MethodNotAllowed", "no", Reason.SANDBOX_FAILED),
    ],
)
def test_B3_each_refusal_has_its_reason_and_the_clusters_words(
    status: int, reason: str, message: str, expected: Reason
) -> None:
    refusal = api_refusal(status, reason, message)
    assert isinstance(refusal, Refusal)
    assert refusal.reason is expected
    if expected is not Reason.CANCELLED and "RuntimeClass" not in message:
        assert message in refusal.message


def test_B3_no_room_in_the_quota_says_when_to_come_back() -> None:
    assert api_refusal(403, "Forbidden", QUOTA) == Refusal(
        Reason.QUOTA_EXCEEDED,
        f"the quota team of the namespace has no room for the sandbox's pod: {QUOTA}. "
        "Come back later, or ask for a larger quota",
        retry_after_seconds=10,
    )


def test_a_runtime_class_that_is_missing_names_the_field() -> None:
    refusal = api_refusal(403, "Forbidden", 'pod rejected: RuntimeClass "kata" not found')
    assert isinstance(refusal, Refusal)
    assert refusal.field == "spec.runtimeClassName"


@pytest.mark.parametrize(
    ("status", "reason", "message"),
    [
        (0, "", "connection refused"),
        (401, "Unauthorized", "Unauthorized"),
        (
            409,
            "Conflict",
            'Operation cannot be fulfilled on resourcequotas "team": the object has been modified',
        ),
        (429, "TooManyRequests", "try again"),
        (500, "InternalError", 'failed calling webhook "v.example.com": connection refused'),
        (
            403,
            "Forbidden",
            "policy 'p' with binding 'b' denied request: failed to configure binding: no params",
        ),
        (503, "ServiceUnavailable", "apiserver is shutting down"),
        (504, "Timeout", "request did not complete"),
    ],
)
def test_B13_what_may_work_in_a_moment_is_tried_again(status: int, reason: str, message: str) -> None:
    assert api_refusal(status, reason, message) == Later(message, 1.0)


def test_B13_the_api_server_may_say_when() -> None:
    body = {"details": {"retryAfterSeconds": 7}}
    assert api_refusal(429, "TooManyRequests", "later", body) == Later("later", 7.0)
