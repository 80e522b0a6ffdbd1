"""Server-sent events, read however they are cut; and the URL and key of a gateway."""

import sys
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.api import Phase, Reason
from corral.client.gateway import GatewayClient
from corral.client.gateway.errors import AnswerError, NotInstalledError
from corral.client.gateway.events import (
    ExecutionEnded,
    ExecutionStarted,
    LogReader,
    LogText,
    OtherEvent,
    OutputPiece,
    ProgressMade,
    ServerSent,
    StreamReader,
    TaskEvent,
    TaskFinished,
    event_of,
    frame_of,
)
from corral.client.gateway.place import Place

STREAM = (
    ": still here\n\n"
    'id: 1\nevent: started\ndata: {"execution": "main", "attempt": 1}\n\n'
    'id: 2\nevent: output\ndata: {"execution": "main", "stream": "stdout", "text": "é\\n\\ud800"}\n\n'
    'id: 3\r\nevent: output\r\ndata: {"execution": "main", "stream": "stderr", "base64": "//4="}\r\n\r\n'
    'id: 4\revent: progress\rdata: {"execution": "main",\rdata:"message": "half", "fraction": 0.5}\r\r'
    'event: ended\nid: 5\ndata: {"execution": "main", "reason": "Completed", "message": null}\n\n'
    "id: 6\n\n"
    'id: 7\nevent: new-kind\nretry: 10\nunknown\ndata: {"x": 1}\n\n'
    'id: 8\nevent: finished\ndata: {"phase": "Succeeded", "reason": "Completed", "message": ""}\n\n'
    "id: 9\nevent: never ended\ndata: {}\n"
).encode()
EVENTS: list[TaskEvent] = [
    ExecutionStarted(1, "main", 1),
    OutputPiece(2, "main", "stdout", "é\n".encode() + b"\xed\xa0\x80"),
    OutputPiece(3, "main", "stderr", b"\xff\xfe"),
    ProgressMade(4, "main", "half", 0.5),
    ExecutionEnded(5, "main", "Completed", ""),
    OtherEvent(7, "new-kind", {"x": 1}),
    TaskFinished(8, Phase.SUCCEEDED, Reason.COMPLETED, ""),
]


@given(st.lists(st.integers(0, len(STREAM)), max_size=20))
def test_B8_a_stream_is_read_the_same_wherever_it_is_cut(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(STREAM)]
    reader = StreamReader()
    found = [event_of(sent) for start, end in pairwise(places) for sent in reader.feed(STREAM[start:end])]
    assert found == EVENTS


@given(st.binary(max_size=300))
def test_B8_no_bytes_are_too_strange_to_read(data: bytes) -> None:
    for sent in StreamReader().feed(data):
        assert isinstance(sent, ServerSent)


@pytest.mark.parametrize(
    ("event", "data"),
    [
        ("started", "[]"),
        ("started", "{"),
        ("output", "{}"),
        ("output", '{"stream": "stdout", "base64": "!"}'),
        ("output", '{"stream": "stdout", "base64": 5}'),
        ("progress", '{"fraction": "x"}'),
        ("finished", '{"phase": "Done", "reason": "Completed"}'),
        ("finished", "null"),
        ("other", "5"),
        ("other", "[" * 5000),
    ],
)
def test_B8_what_is_no_event_is_said_to_be_none(event: str, data: str) -> None:
    with pytest.raises(AnswerError):
        event_of(ServerSent("1", event, data))
    with pytest.raises(AnswerError):
        event_of(ServerSent("x", "started", "{}"))


def test_B8_text_that_was_cut_inside_a_character_comes_whole() -> None:
    reader = LogReader()
    pieces: list[TaskEvent] = [
        OutputPiece(1, "main", "stdout", b"a\xc3"),
        OutputPiece(2, "main", "stderr", b"\xe2\x82"),
        OutputPiece(3, "main", "stdout", b"\xa9"),
        TaskFinished(4, Phase.SUCCEEDED, Reason.COMPLETED, ""),
    ]
    assert [text for piece in pieces for text in reader.feed(piece)] == [
        LogText("main", "stdout", "a"),
        LogText("main", "stdout", "é"),
        LogText("main", "stderr", "\ufffd"),
    ]


def test_only_what_a_sandbox_says_is_a_frame() -> None:
    assert [frame_of(event) is not None for event in EVENTS] == [True, True, True, True, False, False, False]


@pytest.mark.parametrize(
    "url",
    [
        *(
            "localhost:8000",
            "ftp://x",
            "http://",
            "http://x:99999",
            "http://[::1",
            "http://a b",
            "//x",
            "http://x\n",
        ),
        *("http://user:secret@x", "http://x/?q=1", "http://x/#f"),
    ],
)
def test_M5_what_is_no_url_of_a_gateway_is_refused_and_no_secret_is_repeated(url: str) -> None:
    with pytest.raises(ValueError, match="URL") as raised:
        Place.of(url, None)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("key", ["a b", "a\r\nX: y", "é", ""])
def test_M5_what_is_no_key_is_refused_without_being_repeated(key: str) -> None:
    with pytest.raises(ValueError, match="no API key") as raised:
        Place.of("http://x", key)
    assert not key or key not in str(raised.value).replace("an API", "")


def test_M5_url_and_key_come_from_the_environment_unless_they_are_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CORRAL_GATEWAY", "https://there/corral/")
    monkeypatch.setenv("CORRAL_API_KEY", "k1")
    assert Place.of(None, None) == Place("https://there/corral", "k1")
    assert Place.of("http://here", "k2") == Place("http://here", "k2")
    assert "k1" not in repr(Place.of(None, None))
    monkeypatch.delenv("CORRAL_GATEWAY")
    with pytest.raises(ValueError, match="CORRAL_GATEWAY"):
        Place.of(None, None)


def test_M5_what_is_not_installed_is_said_with_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(NotInstalledError, match=r"pip install 'corral\[client\]'"):
        GatewayClient("http://x")
