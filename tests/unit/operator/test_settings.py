"""The operator's settings."""

import os

import pytest
from pydantic import ValidationError
from pydantic_settings import SettingsError

from corral_operator.settings import Settings


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("CORRAL_"):
            monkeypatch.delenv(name)


def test_M10_without_an_environment_the_defaults_hold() -> None:
    found = Settings()
    assert (found.namespaces, found.leader_election, found.policy_file) == (("*",), True, None)


def test_M10_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "NAMESPACES": '["a", "b"]',
        "RUNTIME_CLASS": "gvisor",
        "HOST_USERS": "false",
        "LEASE_SECONDS": "15",
        "LATE_SECRETS": '["a"]',
        "POLICY_FILE": "/etc/policy.yaml",
    }.items():
        monkeypatch.setenv(f"CORRAL_{name}", value)
    found = Settings()
    assert found == Settings(
        namespaces=("a", "b"),
        runtime_class="gvisor",
        host_users=False,
        lease_seconds=15,
        late_secrets=("a",),
        policy_file="/etc/policy.yaml",
    )


@pytest.mark.parametrize("name", ["RUNTIME_CLASS", "POLICY_FILE", "SERVICE_ACCOUNT", "POD_UID"])
def test_M10_an_empty_variable_is_an_absent_one(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(f"CORRAL_{name}", "")
    assert getattr(Settings(), name.lower()) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NAMESPACES", "a,b"),
        ("NAMESPACES", "[]"),
        ("NAMESPACES", '["*", "a"]'),
        ("HOST_USERS", "perhaps"),
        ("CPU_REQUEST_FRACTION", "1.5"),
        ("MEMORY_REQUEST_FRACTION", "-0.1"),
        ("LEASE_SECONDS", "1"),
        ("LEASE_SECONDS", "inf"),
        ("LEASE_SECONDS", "nan"),
        ("SWEEP_SECONDS", "0"),
        ("POD_START_SECONDS", "soon"),
        ("POD_START_SECONDS", "inf"),
        ("LINGER_SECONDS", "inf"),
        ("STATUS_OUTPUT_BYTES", "100"),
        ("STATUS_BYTES", "2000000"),
        ("METRICS_PORT", "70000"),
        ("LOG_FORMAT", "xml"),
        ("IMAGE_PULL_POLICY", "always"),
    ],
)
def test_M10_a_wrong_setting_is_refused_with_its_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"CORRAL_{name}", value)
    with pytest.raises((ValidationError, SettingsError)) as error:
        Settings()
    assert name.lower() in str(error.value)


def test_M10_settings_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().lease_seconds = 5  # type: ignore[misc]
