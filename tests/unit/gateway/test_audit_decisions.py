"""The parts of the audit that only decide."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral_gateway.audit.chain import ORIGIN, canonical, link
from corral_gateway.audit.flood import EACH, SOURCES, Flood
from corral_gateway.audit.log import Stored
from corral_gateway.audit.masking import MASK, kept, masked, plain
from corral_gateway.audit.ocsf import event_of
from corral_gateway.audit.records import Kind, RequestEnded, RequestFacts, now

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(_JSON)
def test_M8_any_json_has_one_ascii_text_that_reads_back_to_itself(value: Any) -> None:
    text = canonical(value)
    assert text.isascii()
    assert canonical(json.loads(text)) == text


def test_M8_keys_in_another_order_are_the_same_record() -> None:
    assert canonical({"b": 1, "a": [{"d": 1, "c": 2}]}) == '{"a":[{"c":2,"d":1}],"b":1}'
    assert canonical({"a": float("nan")}) == '{"a":null}'
    assert link(ORIGIN, "{}") != link(link(ORIGIN, "{}"), "{}")


@pytest.mark.parametrize(
    "secret",
    [
        "corral_0123456789ab_" + "s" * 43,
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbmEifQ.c2lnbmF0dXJl",
        "AKIAIOSFODNN7EXAMPLE",
        "ghp_" + "a1B2" * 9,
        "sk-" + "a1B2" * 8,
        "-----BEGIN PRIVATE KEY-----\nMIIB",
    ],
)
def test_M8_what_is_secret_wherever_it_stands_is_masked(secret: str) -> None:
    for shown in (
        masked({"command": f"curl -H 'X: {secret}'", "more": [secret]}),
        masked({secret: 1}),
        kept([secret], "keep"),
        plain(f"/v1/tasks/{secret}"),
    ):
        assert secret not in json.dumps(shown)
        assert secret[-12:] not in json.dumps(shown)


@pytest.mark.parametrize("part", ["a.", "eyJ", "eyJ.", "a://b:", "bearer ", "sk-", "-----BEGIN ", "corral_"])
def test_A9_nobody_can_send_a_text_that_takes_long_to_mask(part: str) -> None:
    # A megabyte of the first took a quarter of an hour, during which no record was written.
    text = part * (1_000_000 // len(part))
    assert masked(text)
    assert masked(text + " corral_0123456789ab_" + "s" * 43).endswith("corral_0123456789ab_…")


def test_M8_a_field_that_is_called_like_a_secret_is_masked_whatever_it_holds() -> None:
    given_ = {
        "password": "a",
        "API-Key": ["b"],
        "nested": {"client_secret": {"c": 1}},
        "author": "d",
        "token": None,
    }
    assert masked(given_) == {
        "password": MASK,
        "API-Key": MASK,
        "nested": {"client_secret": MASK},
        "author": "d",
        "token": None,
    }


def test_M8_arguments_are_a_hash_unless_they_are_to_be_kept() -> None:
    assert set(kept({"a": 1}, "hash")) == {"sha256", "bytes"}
    assert kept({"a": 1}, "keep")["value"] == {"a": 1}
    assert kept({"a": 1}, "keep")["sha256"] == kept({"a": 1}, "hash")["sha256"]
    long = kept({"a": "x" * 10_000}, "keep")
    assert len(long["start"]) == 4096
    assert long["bytes"] == 10_008


def _refused(source: str, reason: str = "Unauthenticated") -> RequestEnded:
    request = RequestFacts("id", "", "", source, "agent", "http", "GET", "/v1/tasks", "/v1/tasks", now())
    return RequestEnded(request, "401", False, reason, 0.0, kind=Kind.REQUEST_REFUSED)


def test_M8_of_a_flood_the_first_are_told_and_the_others_counted_by_source_and_reason() -> None:
    flood = Flood()
    told = [
        one for _ in range(EACH + 5) for one in (flood.let_through(_refused("10.0.0.1")),) if one is not None
    ]
    assert len(told) == EACH
    assert flood.let_through(_refused("10.0.0.2")) is not None
    assert flood.let_through(_refused("10.0.0.1", "RateLimited")) is not None
    (counted,) = flood.end_of_window()
    assert (counted.count, counted.request.source) == (5, "10.0.0.1")
    assert flood.let_through(_refused("10.0.0.1")) is not None, "a new window"


def test_M8_a_flood_from_everywhere_takes_no_more_memory_than_from_somewhere() -> None:
    flood = Flood()
    for place in range(SOURCES * 20):
        flood.let_through(_refused(f"10.0.{place // 250}.{place % 250}"))
    counted = list(flood.end_of_window())
    assert len(counted) == 1
    assert counted[0].count == SOURCES * 19 - EACH
    assert counted[0].request.source == "many"


def _event(kind: Kind, **said: Any) -> dict[str, Any]:
    record = {"seq": 7, "time": "2026-01-31T12:00:00.000000Z", "kind": kind.value, **said}
    return event_of(Stored(7, record["time"], kind.value, canonical(record), ORIGIN, "f" * 64))


def test_M8_records_as_events_of_ocsf_have_what_their_classes_require() -> None:
    request = {
        **_refused("10.0.0.1").body("hash"),
        "caller": "ana",
        "credential": "key:0a1b2c3d4e5f",
        "method": "DELETE",
    }
    events = [
        _event(Kind.REQUEST_ENDED, **{**request, "reason": "Forbidden"}),
        _event(Kind.REQUEST_REFUSED, **request),
        _event(
            Kind.DECISION,
            requestId="r",
            taskUid="t",
            caller="ana",
            tools=["shell"],
            allowed=False,
            decidedBy="x",
        ),
        _event(
            Kind.EXECUTION,
            taskUid="t",
            caller="",
            tool="shell",
            execution="main",
            attempt=1,
            status="success",
        ),
        _event(Kind.AUDIT_STARTED),
    ]
    for event in events:
        assert event["metadata"]["version"] == "1.3.0"
        assert event["metadata"]["product"]["name"] == "Corral"
        assert event["category_uid"] == event["class_uid"] // 1000
        assert event["type_uid"] == event["class_uid"] * 100 + event["activity_id"]
        assert event["time"] == 1769860800000
    classes = [(event["class_uid"], event["activity_id"]) for event in events]
    assert classes == [(6003, 4), (3002, 1), (6003, 99), (1007, 2), (1008, 6)]
    assert events[0]["actor"]["user"] == {"name": "ana", "uid": "key:0a1b2c3d4e5f"}
    assert events[2]["action_id"] == 2
    assert events[3]["process"]["uid"] == "t/main/1"
    assert events[3]["device"]["type_id"] == 99


def test_M8_a_count_is_told_in_the_record_that_stands_for_it() -> None:
    assert replace(_refused("10.0.0.1"), count=5).body("hash")["count"] == 5
    assert "count" not in _refused("10.0.0.1").body("hash")
