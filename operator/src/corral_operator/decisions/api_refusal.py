"""From an API server's refusal of a pod to a typed reason, or to "later"."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from corral.api import Reason
from corral_operator.decisions.observed import Refusal

#: A quota has room again when a pod ends. Most do within a minute; ten seconds cost little to ask.
_QUOTA_RETRY_SECONDS = 10
_LATER_SECONDS = 1.0

#: A webhook or a policy's parameter that cannot be reached is no rule, and may be there again in a moment.
_UNREACHED = re.compile(r"failed calling webhook|failed to call webhook|failed to configure binding")


@dataclass(frozen=True, slots=True)
class _Words:
    """What the API server says, and what it means. ``{rule}`` is the rule that it names, ``{said}`` all of it."""

    pattern: re.Pattern[str]
    reason: Reason
    message: str
    field: str | None = None
    retry_after_seconds: int | None = None


_ASK = "Ask whoever runs the cluster, or ask for less"
#: It says these in words only. Each with where it is written in kubernetes/kubernetes; the first that is found holds.
_WORDS = (
    # staging/src/k8s.io/apiserver/pkg/admission/plugin/namespace/lifecycle/admission.go. The namespace's tasks are
    # being deleted with it: who deletes a namespace cancels what is in it.
    _Words(
        re.compile(r'because it is being terminated|namespaces "[^"]*" not found'),
        Reason.CANCELLED,
        "the task's namespace is being deleted, so nothing can start in it",
    ),
    # staging/src/k8s.io/apiserver/pkg/admission/plugin/resourcequota/controller.go
    _Words(
        re.compile(r"exceeded quota: (?P<rule>\S+?),"),
        Reason.QUOTA_EXCEEDED,
        "the quota {rule} of the namespace has no room for the sandbox's pod: {said}. "
        "Come back later, or ask for a larger quota",
        retry_after_seconds=_QUOTA_RETRY_SECONDS,
    ),
    # plugin/pkg/admission/runtimeclass/admission.go; a 403, not a 404
    _Words(
        re.compile(r'RuntimeClass "(?P<rule>[^"]*)" not found'),
        Reason.INVALID_SPEC,
        "the cluster has no RuntimeClass {rule}. Correct spec.runtimeClassName; "
        "`kubectl get runtimeclasses` lists those there are",
        field="spec.runtimeClassName",
    ),
    # plugin/pkg/admission/serviceaccount/admission.go
    _Words(
        re.compile(r"error looking up service account"),
        Reason.SANDBOX_FAILED,
        "the service account of sandbox pods is missing in the namespace: {said}. "
        "Create it, or correct CORRAL_SERVICE_ACCOUNT",
    ),
    # staging/src/k8s.io/apiserver/pkg/endpoints/handlers/responsewriters/errors.go
    _Words(
        re.compile(r'User "[^"]*" cannot create resource'),
        Reason.SANDBOX_FAILED,
        "the operator itself may not create pods in this namespace: {said}. "
        "Give it the chart's Role there, or leave the namespace out of its list",
    ),
    # staging/src/k8s.io/pod-security-admission/admission/admission.go
    _Words(
        re.compile(r'violates PodSecurity "(?P<rule>[^"]*)"'),
        Reason.ADMISSION_REFUSED,
        "Pod Security level {rule} refuses the sandbox's pod: {said}. " + _ASK,
    ),
    # staging/src/k8s.io/apiserver/pkg/admission/plugin/policy/validating/dispatcher.go. Its status is 422 unless the
    # policy names another, so words go before the status.
    _Words(
        re.compile(r"ValidatingAdmissionPolicy '(?P<rule>[^']*)' (?:with binding '[^']*' )?denied request"),
        Reason.ADMISSION_REFUSED,
        "ValidatingAdmissionPolicy {rule} refuses the sandbox's pod: {said}. " + _ASK,
    ),
    # staging/src/k8s.io/apiserver/pkg/admission/plugin/webhook/errors/statuserror.go; the webhook chooses the status.
    _Words(
        re.compile(r'admission webhook "(?P<rule>[^"]*)" denied the request'),
        Reason.ADMISSION_REFUSED,
        "admission webhook {rule} refuses the sandbox's pod: {said}. " + _ASK,
    ),
)


@dataclass(frozen=True, slots=True)
class Later:
    """The same request may succeed in a moment; whether this one did is not known."""

    message: str
    retry_after_seconds: float


def api_refusal(
    status: int, reason: str, message: str, body: Mapping[str, Any] | None = None
) -> Refusal | Later:
    """Return what it means that a pod was not created.

    That its name is taken is not asked here: only the caller knows whether the pod is its own.

    Args:
        status: HTTP status; 0 for no answer.
        reason: ``reason`` of the Status object, such as Forbidden.
        message: ``message`` of it.
        body: the whole Status object, for ``details.retryAfterSeconds``.
    """
    asked = ((body or {}).get("details") or {}).get("retryAfterSeconds")
    later = Later(message, float(asked) if asked else _LATER_SECONDS)
    if _UNREACHED.search(message):
        return later
    named = _by_words(message)
    if named is not None:
        return named
    # Two quotas' counters that were written at the same time: a 409 which is no object's of ours.
    if status in {0, 401, 408, 409, 429} or status >= 500:
        return later
    if status in {400, 413, 422} or reason in {"Invalid", "BadRequest", "RequestEntityTooLarge"}:
        return Refusal(
            Reason.INVALID_SPEC,
            f"the API server does not take the sandbox's pod: {message}. Correct the task",
        )
    if status == 403:
        return Refusal(
            Reason.ADMISSION_REFUSED,
            f"the cluster's rules refuse the sandbox's pod: {message}. Ask whoever runs the cluster, or ask for less",
        )
    return Refusal(
        Reason.SANDBOX_FAILED,
        f"the API server would not create the sandbox's pod: {status} {reason}: {message}",
    )


def _by_words(message: str) -> Refusal | None:
    for words in _WORDS:
        found = words.pattern.search(message)
        if found is not None:
            text = words.message.format(rule=found.groupdict().get("rule", ""), said=message)
            return Refusal(words.reason, text, words.field, words.retry_after_seconds)
    return None
