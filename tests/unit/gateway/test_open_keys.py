"""A gateway that is reached from elsewhere says that HTTP has no TLS."""

import pytest

from corral_gateway.commands.serve import _warn_of_open_keys


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_M5_who_is_reached_from_this_machine_alone_is_not_warned(
    host: str, caplog: pytest.LogCaptureFixture
) -> None:
    _warn_of_open_keys(host)
    assert caplog.text == ""


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "gateway.example"])
def test_M5_who_is_reached_from_elsewhere_is_warned_of_keys_without_tls(
    host: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    _warn_of_open_keys(host)
    assert f"HTTP on {host} has no TLS" in caplog.text


def test_M5_in_a_pod_it_is_the_part_of_the_ingress(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "192.0.2.2")
    _warn_of_open_keys("0.0.0.0")
    assert caplog.text == ""
