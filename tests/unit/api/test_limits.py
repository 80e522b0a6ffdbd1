"""Limits: merged, compared, resolved."""

import pytest
from pydantic import ValidationError

from corral.api import DEFAULT_LIMITS, MAXIMUM_LIMITS, Limits, ResolvedLimits


def test_limits_that_are_given_go_before_those_of_the_base() -> None:
    task, tool = Limits(memory="1Gi"), Limits(memory="256Mi", cpu="2")
    assert task.merged_over(tool) == Limits(memory="1Gi", cpu="2")


def test_only_what_both_sides_give_can_be_exceeded() -> None:
    asked = Limits(memory="1Gi", timeout="2m", processes=10, file_size="1Gi", idle_timeout="5s")
    maximum = Limits(memory="1024Mi", timeout="119s", processes=9, file_size="1G")
    assert asked.exceeds(maximum) == ["processes", "fileSize", "timeout"]
    assert Limits().exceeds(maximum) == []


def test_defaults_are_lowered_to_a_maximum_field_by_field() -> None:
    lowered = Limits(memory="1Gi", cpu="1").lowered_to(Limits(memory="512Mi", cpu="2"))
    assert lowered == Limits(memory="512Mi", cpu="1")


def test_M2_resolved_limits_speak_the_units_of_the_runners_protocol() -> None:
    resolved = ResolvedLimits.of(Limits(memory="256Mi", cpu="500m", timeout="1m30s", idle_timeout="5s"))
    assert resolved.to_runner() == {
        "cpu": 0.5,
        "cpuSeconds": 60.0,
        "memoryBytes": 256 << 20,
        "processes": 64,
        "diskBytes": 128 << 20,
        "fileSizeBytes": 64 << 20,
        "openFiles": 256,
        "outputBytes": 1 << 20,
        "wallSeconds": 90.0,
        "idleSeconds": 5.0,
    }


def test_a_task_that_asks_for_nothing_gets_the_defaults_and_no_idle_timeout() -> None:
    assert ResolvedLimits.of(Limits()) == ResolvedLimits.of(DEFAULT_LIMITS)
    assert "idleSeconds" not in ResolvedLimits.of(Limits()).to_runner()


def test_the_defaults_and_the_maximum_are_limits_that_a_manifest_may_name() -> None:
    for limits in (DEFAULT_LIMITS, MAXIMUM_LIMITS):
        assert Limits.from_wire(limits.to_wire()) == limits
    assert DEFAULT_LIMITS.exceeds(MAXIMUM_LIMITS) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("memory", "65Gi"),
        ("memory", 256.5),
        ("memory", True),
        ("cpu", "64.001"),
        ("cpu", 65),
        ("cpuTime", "24h1ns"),
        ("timeout", 30),
        ("processes", 4097),
        ("processes", "64"),
        ("openFiles", 64.0),
        ("output", "1Gi"),
        ("memroy", "1Gi"),
        ("file_size", "1Gi"),  # the wire has fileSize only
    ],
)
def test_a_limit_out_of_bounds_or_of_another_type_is_refused(field: str, value: object) -> None:
    with pytest.raises(ValidationError):
        Limits.from_wire({field: value})


def test_whole_numbers_are_quantities_as_in_kubernetes() -> None:
    assert Limits.from_wire({"cpu": 2, "memory": 1048576}) == Limits(cpu="2", memory="1048576")
