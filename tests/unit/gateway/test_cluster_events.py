"""B8: in a cluster the number of an event says how far its reader is, so nothing is told twice or left out."""

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from corral.api import (
    ExecutionOutput,
    ExecutionStatus,
    Frame,
    Output,
    Phase,
    Progress,
    Reason,
    Started,
    Timings,
)
from corral_gateway.tasks.cluster.places import Place
from corral_gateway.tasks.cluster.telling import Telling
from corral_gateway.tasks.events import HIGHEST_NUMBER, Event

_PARTS = st.builds(
    Place,
    execution=st.integers(0, 64),
    attempt=st.integers(0, 20),
    stage=st.integers(0, 2),
    stdout=st.integers(0, 1 << 26),
    stderr=st.integers(0, 1 << 26),
    progress=st.integers(0, 1 << 14),
)
_TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
_FRAMES = st.lists(
    st.one_of(
        st.builds(
            Output, seq=st.just(0), t=st.just(0.0), stream=st.sampled_from(["stdout", "stderr"]), data=_TEXT
        ),
        st.builds(Progress, seq=st.just(0), t=st.just(0.0), fraction=st.none(), message=st.just("on")),
    ),
    max_size=12,
)


def _whole(said: Sequence[Frame]) -> list[Frame]:
    return [Started(0, 0.0, 1, 1), *said]


def _status(said: Sequence[Frame]) -> ExecutionStatus:
    def text(stream: str) -> str:
        return "".join(one.text for one in said if isinstance(one, Output) and one.stream == stream)

    return ExecutionStatus(
        name="main",
        tool="shell",
        attempt=1,
        phase=Phase.SUCCEEDED,
        reason=Reason.COMPLETED,
        output=ExecutionOutput(stdout=text("stdout"), stderr=text("stderr")),
        timings=Timings(started="2026-01-01T00:00:00Z"),
    )


def _live(after: int, said: Sequence[Frame]) -> tuple[Telling, list[Event]]:
    telling = Telling(after)
    telling.begins(0, 1)
    frames = telling.frames_begin()
    return telling, [event for frame in said for event in frames.take("main", frame)]


def _of_status(after: int, status: ExecutionStatus) -> list[Event]:
    telling = Telling(after)
    telling.begins(0, status.attempt)
    return list(telling.of_status(status))


def _text(events: Sequence[Event], stream: str) -> str:
    return "".join(
        event.data["text"] for event in events if event.kind == "output" and event.data["stream"] == stream
    )


@given(_PARTS, _PARTS)
def test_B8_a_number_is_a_place_and_grows_with_it(one: Place, other: Place) -> None:
    assert Place.of(one.number) == one
    assert (one.number < other.number) is (one < other)


@given(st.integers(0, 1 << 200))
def test_B8_a_number_that_no_event_has_is_taken_for_some_place(number: int) -> None:
    assert Place.of(number).number == min(number, HIGHEST_NUMBER)


def test_B8_a_part_that_is_too_large_does_not_spill_into_another() -> None:
    full = Place(0, 1, 1, 0, 0, 1 << 20)
    assert Place.of(full.number) == replace(full, progress=(1 << 16) - 1)


@given(_FRAMES, st.data())
def test_B8_a_reader_who_comes_back_while_it_runs_is_told_the_rest(
    said: list[Frame], data: st.DataObject
) -> None:
    _, whole = _live(0, _whole(said))
    assert [one.seq for one in whole] == sorted({one.seq for one in whole})
    assert len(whole) == len(said) + 1
    known = data.draw(st.integers(0, len(whole)))
    last = whole[known - 1].seq if known else 0
    assert _live(last, _whole(said))[1] == whole[known:]


@given(_FRAMES, st.data())
def test_B8_a_reader_who_comes_back_when_the_sandbox_is_gone_is_told_the_rest_of_the_text(
    said: list[Frame], data: st.DataObject
) -> None:
    _, whole = _live(0, _whole(said))
    known = data.draw(st.integers(0, len(whole)))
    before, last = whole[:known], whole[known - 1].seq if known else 0
    status = _status(said)
    after = _of_status(last, status)
    for stream in ("stdout", "stderr"):
        assert status.output is not None
        assert _text(before, stream) + _text(after, stream) == getattr(status.output, stream)
    kinds = [one.kind for one in (*before, *after)]
    assert kinds.count("started") == kinds.count("ended") == 1
    assert (kinds[0], kinds[-1]) == ("started", "ended")
    numbers = [one.seq for one in (*before, *after)]
    assert numbers == sorted(set(numbers))
    # And again, from any of those.
    for place, event in enumerate(after):
        assert _of_status(event.seq, status) == after[place + 1 :]


@given(_FRAMES, st.data())
def test_B8_a_reader_whose_sandbox_goes_half_way_is_told_the_rest(
    said: list[Frame], data: st.DataObject
) -> None:
    heard = data.draw(st.integers(0, len(said) + 1))
    telling, before = _live(0, _whole(said)[:heard])
    after = list(telling.of_status(_status(said)))
    for stream in ("stdout", "stderr"):
        assert _text([*before, *after], stream) == _text(_live(0, _whole(said))[1], stream)
    assert [one.kind for one in (*before, *after)].count("started") == 1


def test_B8_of_output_that_the_status_has_cut_nothing_comes_twice() -> None:
    said: list[Frame] = [Output(0, 0.0, "stdout", "0123456789"), Output(0, 0.0, "stderr", "abc")]
    _, live = _live(0, _whole(said))
    cut = _status(said).model_copy(
        update={"output": ExecutionOutput(stdout="01234", stderr="abc", truncated=True)}
    )
    assert [(one.kind, one.data.get("text")) for one in _of_status(live[1].seq, cut)] == [
        ("output", "abc"),
        ("ended", None),
    ]


def test_B8_another_attempt_is_told_from_its_beginning() -> None:
    telling, _ = _live(0, _whole([Output(0, 0.0, "stdout", "first")]))
    telling.begins(0, 2)
    status = _status([Output(0, 0.0, "stdout", "second")]).model_copy(update={"attempt": 2})
    assert [(one.kind, one.data.get("text")) for one in telling.of_status(status)] == [
        ("started", None),
        ("output", "second"),
        ("ended", None),
    ]


def test_B8_what_never_started_has_only_an_end() -> None:
    refused = ExecutionStatus(name="main", tool="none", reason=Reason.TOOL_NOT_FOUND, message="no such tool")
    assert [(one.kind, one.data) for one in _of_status(0, refused)] == [
        ("ended", {"execution": "main", "reason": "ToolNotFound", "message": "no such tool"})
    ]
