"""The closed list of reasons."""

from corral.api import REASON_DOCS, RETRY_SAFE_REASONS, Reason


def test_M2_the_reasons_are_those_of_the_contract() -> None:
    assert [reason.value for reason in Reason] == [
        "Completed",
        "ToolError",
        "InvalidArguments",
        "ToolNotFound",
        "PermissionDenied",
        "DeadlineExceeded",
        "OutOfMemory",
        "ProcessLimit",
        "DiskLimit",
        "OutputLimit",
        "CPULimit",
        "NetworkDenied",
        "Evicted",
        "NodeLost",
        "SandboxFailed",
        "ImagePullFailed",
        "QuotaExceeded",
        "Cancelled",
        "FileSizeLimit",
        "IdleTimeout",
        "StepFailed",
        "Unsupported",
        "InvalidSpec",
        "Unschedulable",
        "AdmissionRefused",
    ]


def test_M2_every_reason_is_documented_with_a_remedy() -> None:
    assert set(REASON_DOCS) == set(Reason)
    for doc in REASON_DOCS.values():
        assert doc.summary.endswith(".")
        assert doc.remedy.endswith(".")


def test_only_causes_outside_the_tool_may_be_retried() -> None:
    assert set(RETRY_SAFE_REASONS) == {
        Reason.EVICTED,
        Reason.NODE_LOST,
        Reason.SANDBOX_FAILED,
        Reason.IMAGE_PULL_FAILED,
        Reason.QUOTA_EXCEEDED,
        Reason.UNSCHEDULABLE,
    }
