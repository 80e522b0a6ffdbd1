"""How often somebody may fail."""

from corral_gateway.identity.failed_attempts import FailedAttempts


def test_M5_a_source_waits_after_its_failures_until_the_window_is_over() -> None:
    failed = FailedAttempts(2, 60)
    assert failed.wait_seconds("192.0.2.1", 0) == 0
    failed.note("192.0.2.1", 0)
    assert failed.wait_seconds("192.0.2.1", 10) == 0
    failed.note("192.0.2.1", 10)
    assert failed.wait_seconds("192.0.2.1", 10.5) == 50
    assert failed.wait_seconds("192.0.2.2", 10) == 0
    assert failed.wait_seconds("192.0.2.1", 60) == 0
    assert failed.note("192.0.2.1", 60) == 1


def test_M5_a_customers_ipv6_addresses_are_one_source() -> None:
    failed = FailedAttempts(1, 60)
    failed.note("2001:db8::1", 0)
    assert failed.wait_seconds("2001:db8::2", 0) == 60
    assert failed.wait_seconds("2001:db8:0:1::1", 0) == 0
    # A socket of both kinds writes IPv4 so: they are not all one.
    failed.note("::ffff:192.0.2.1", 0)
    assert failed.wait_seconds("192.0.2.1", 0) == 60
    assert failed.wait_seconds("::ffff:192.0.2.2", 0) == 0
    for odd in ("", "fe80::1%eth0", "::ffff:1.2.3.4", "x:y", "unix:"):
        failed.note(odd, 0)
        assert failed.wait_seconds(odd, 0) == 60


def test_M5_no_number_of_sources_takes_more_than_so_much_memory() -> None:
    failed = FailedAttempts(1, 60)
    for number in range(20_000):
        failed.note(f"192.0.2.{number}", 0)
    assert len(failed._windows) == 10_000
    assert failed.wait_seconds("192.0.2.19999", 1) == 59
