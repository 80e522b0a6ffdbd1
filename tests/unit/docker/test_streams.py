"""The stream of an attached container, however it is cut into pieces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.sandbox.docker.streams import STDERR, STDOUT, Demultiplexer, StreamError

FRAMES = st.lists(st.tuples(st.sampled_from([STDOUT, STDERR]), st.binary(max_size=300)), max_size=8)


def wire(frames: list[tuple[int, bytes]]) -> bytes:
    return b"".join(bytes([stream, 0, 0, 0]) + len(data).to_bytes(4, "big") + data for stream, data in frames)


@given(FRAMES, st.integers(1, 50))
def test_frames_come_out_as_they_went_in(frames: list[tuple[int, bytes]], piece: int) -> None:
    taken = Demultiplexer()
    data = wire(frames)
    found = []
    for start in range(0, len(data), piece):
        found += taken.feed(data[start : start + piece])
    assert found == frames


@pytest.mark.parametrize(
    "data", [b"\x07\0\0\0\0\0\0\1x", b"\1\1\0\0\0\0\0\1x", b"\1\0\0\0\xff\0\0\0", b"HTTP/1.1"]
)
def test_what_is_no_attached_stream_is_refused(data: bytes) -> None:
    with pytest.raises(StreamError):
        Demultiplexer().feed(data)
