"""Whose a container is, and when its owner is certainly dead."""

import subprocess
import sys
from dataclasses import replace

import pytest

from corral.sandbox.docker.leftovers import OwnerProcess, started_at

ME = OwnerProcess("machine", "boot", "pid:[1]", 4_000_000, 99)


def test_a_living_owner_keeps_its_containers() -> None:
    me = OwnerProcess.current()
    assert not me.knows_dead(me.labels())


def test_an_owner_that_has_ended_does_not() -> None:
    me = OwnerProcess.current()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        started = started_at(child.pid)
        assert started is not None
        other = replace(me, pid=child.pid, started=started)
        assert not me.knows_dead(other.labels())
        child.communicate(b"\n")
    assert me.knows_dead(other.labels())


def test_a_number_that_another_process_has_now_is_not_its_owner() -> None:
    me = OwnerProcess.current()
    assert me.knows_dead(replace(me, started=me.started + 1).labels())


@pytest.mark.parametrize(
    ("change", "dead"),
    [
        ({}, True),
        ({"boot": "earlier"}, True),
        ({"boot": "earlier", "machine": "other"}, False),
        ({"space": "pid:[2]"}, False),
    ],
)
def test_nothing_is_said_of_other_machines_and_other_namespaces(change: dict[str, str], dead: bool) -> None:  # noqa: FBT001
    assert ME.knows_dead(replace(ME, **change).labels()) is dead  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "labels", [{}, {"dev.corral.owner": "x"}, {**ME.labels(), "dev.corral.process": "x:y"}]
)
def test_labels_that_say_nothing_are_nobody_s(labels: dict[str, str]) -> None:
    assert not ME.knows_dead(labels)
