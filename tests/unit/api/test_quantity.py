"""Kubernetes quantities as the contract reads them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.api import QuantityError, format_bytes, format_cpu, parse_bytes, parse_cpu


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("1", 1),
        (4096, 4096),
        ("256Mi", 256 << 20),
        ("1.5Gi", 3 << 29),
        (".5Ki", 512),
        ("2.Ki", 2048),
        ("1k", 1000),
        ("1M", 10**6),
        ("1e3", 1000),
        ("1E3", 1000),
        ("1E", 10**18),
        ("0.1", 1),  # Kubernetes rounds up
        ("00016Mi", 16 << 20),
    ],
)
def test_a_quantity_of_bytes_is_read_as_kubernetes_reads_it(text: str | int, size_bytes: int) -> None:
    assert parse_bytes(text) == size_bytes


@pytest.mark.parametrize(
    ("text", "cores"), [("2", 2.0), (4, 4.0), ("500m", 0.5), ("1.5", 1.5), (".25", 0.25), ("0.001", 0.001)]
)
def test_a_quantity_of_cpu_is_read_as_kubernetes_reads_it(text: str | int, cores: float) -> None:
    assert parse_cpu(text) == cores


@pytest.mark.parametrize(
    "text",
    ["", "lots", "-1", "+1", "0", "0Mi", "0.0", "1 Mi", "1mi", "1KI", "1e999", "1_0", "٣", "1" * 21, "1Mi\n"],
)
def test_what_is_no_positive_quantity_is_refused(text: str) -> None:
    with pytest.raises(QuantityError, match="expected a quantity such as 256Mi"):
        parse_bytes(text)


def test_thousandths_of_a_byte_are_refused_and_explained() -> None:
    with pytest.raises(QuantityError, match="not m, which means thousandths"):
        parse_bytes("512m")


@pytest.mark.parametrize("text", ["", "0", "0m", "1Mi", "1k", "-1", "1mm", "many"])
def test_what_is_no_cpu_is_refused(text: str) -> None:
    with pytest.raises(QuantityError, match="expected cores"):
        parse_cpu(text)


@given(st.integers(1, 2**63))
def test_formatted_bytes_read_back_exactly(size_bytes: int) -> None:
    assert parse_bytes(format_bytes(size_bytes)) == size_bytes


@given(st.integers(1, 10**6))
def test_formatted_cpu_reads_back_exactly(thousandths: int) -> None:
    assert parse_cpu(format_cpu(thousandths / 1000)) == thousandths / 1000


def test_bytes_are_written_in_the_largest_unit_that_is_exact() -> None:
    sizes = (1, 1000, 1024, 256 << 20, (1 << 30) + 1, 3 << 40)
    assert [format_bytes(size) for size in sizes] == ["1", "1000", "1Ki", "256Mi", "1073741825", "3Ti"]
