"""When a listening runner ends by itself, and what the container's cgroup tells it."""

import pytest

from corral_runner.cgroup import kills_in
from corral_runner.life import Life
from corral_runner.settings import Settings

START = 1000.0


def life(**settings: float) -> Life:
    return Life(Settings(settings), START)


def test_M4_a_waiting_runner_waits_for_ever_without_a_maximum() -> None:
    found = life()
    assert (found.ends_at(), found.is_over(START + 1e9, unread=False)) == (None, False)


def test_M4_a_waiting_runner_ends_at_its_maximum() -> None:
    found = life(maximumIdleSeconds=60)
    assert found.ends_at() == START + 60
    assert [found.is_over(START + 60 + late, unread=True) for late in (-0.001, 0)] == [False, True]


def test_B13_a_used_runner_lingers_from_its_last_execution() -> None:
    found = life(maximumIdleSeconds=1)
    found.execution_ended(START + 100)
    assert found.ends_at() == START + 100 + 900
    found.owner_spoke(START + 200)
    assert found.ends_at() == START + 200 + 900


def test_B2_a_leaving_runner_gives_its_readers_a_second() -> None:
    found = life()
    found.leaving = True
    assert not found.is_over(START + 5, unread=True)
    assert found.is_over(START + 5.5, unread=False)
    assert not found.is_over(START + 5.9, unread=True)
    assert found.is_over(START + 6.1, unread=True)


@pytest.mark.parametrize(
    ("text", "kills"),
    [
        (b"low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 7\n", 2),
        (b"oom_kill_disable 0\nunder_oom 0\noom_kill 4\n", 4),
        (b"oom_kill_disable 0\nunder_oom 0\n", 0),
        (b"", 0),
    ],
)
def test_M2_the_kernels_counter_is_read_in_both_versions(text: bytes, kills: int) -> None:
    assert kills_in(text) == kills
