"""When the gateway's client sends a request again: decided without a socket, by a clock of the test's own."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from corral.client.gateway.conversation import (
    Answer,
    Conversation,
    CutError,
    Effect,
    Open,
    Pause,
    Request,
    Send,
)
from corral.client.gateway.errors import (
    ConflictError,
    ForbiddenError,
    GatewayError,
    GatewayFaultError,
    InvalidRequestError,
    RateLimitedError,
    TimedOutError,
    UnavailableError,
    UnreachableError,
)
from corral.client.gateway.retrying import Clock, Deadline, Sender, error_in

GET = Request("GET", "/v1/tasks")
UNKEYED = Request("POST", "/tools/execute", repeatable=False)
GOOD = Answer(200, {}, b"{}")
ARRIVED = CutError("hung up", reached=True)
REFUSED = CutError("connection refused", reached=False)


def refused(status: int, reason: str | None = "Some", retry_after: str | None = None) -> Answer:
    """Return an answer that refuses; without a reason, a proxy's."""
    body = b"<html>" if reason is None else json.dumps({"reason": reason, "detail": "no"}).encode()
    return Answer(status, {} if retry_after is None else {"retry-after": retry_after}, body)


@dataclass
class Script:
    """Answers requests one after the other, and lets time pass as it is asked to."""

    outcomes: Sequence[Answer | CutError]
    #: Each takes so long.
    seconds: float = 0.0
    now: float = 0.0
    sent: int = 0
    pauses: list[float] = field(default_factory=list)

    def sender(self, patience_seconds: float = 60.0) -> Sender:
        return Sender(Clock(lambda: self.now, lambda: 1.0), patience_seconds)

    def run(self, request: Request, sender: Sender | None = None, timeout: float = math.inf) -> Answer:
        """Send a request; return its answer, or raise."""
        sender = sender or self.sender()
        conversation = Conversation(sender.send(request, Deadline(sender.clock, self.now + timeout)))
        effect: Effect | None = conversation.go_on()
        while effect is not None:
            match effect:
                case Send() | Open():
                    outcome = self.outcomes[min(self.sent, len(self.outcomes) - 1)]
                    self.sent += 1
                    self.now += min(self.seconds, effect.silence_seconds)
                    if isinstance(outcome, CutError):
                        effect = conversation.fail(outcome)
                    else:
                        effect = conversation.go_on(outcome)
                case Pause():
                    self.pauses.append(effect.seconds)
                    self.now += effect.seconds
                    effect = conversation.go_on()
                case _:
                    raise AssertionError(effect)
        return conversation.result


def test_M6_retry_after_is_honoured_to_the_second_and_never_undercut() -> None:
    script = Script([refused(429, retry_after="7"), refused(503, retry_after="3"), GOOD])
    assert script.run(GET) == GOOD
    assert [pause >= named for pause, named in zip(script.pauses, [7, 3], strict=True)] == [True, True]
    assert sum(script.pauses) < 11


def test_M6_a_time_that_is_longer_than_the_patience_is_told_at_once() -> None:
    script = Script([refused(429, "RateLimited", retry_after="61")])
    with pytest.raises(RateLimitedError) as raised:
        script.run(GET)
    assert raised.value.retry_after_seconds == 61
    assert (script.sent, script.pauses) == (1, [])


def test_B3_a_time_that_is_longer_than_the_callers_is_told_at_once() -> None:
    script = Script([refused(503, "NoCapacity", retry_after="30")])
    with pytest.raises(TimedOutError) as raised:
        script.run(GET, timeout=10)
    assert isinstance(raised.value.__cause__, UnavailableError)
    assert script.pauses == []


def test_pauses_grow_and_then_stay() -> None:
    script = Script([GOOD, *[ARRIVED] * 12, GOOD])
    sender = script.sender()
    script.run(GET, sender)
    script.run(GET, sender)
    assert script.pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, *[5.0] * 6]


def test_a_gateway_that_has_answered_before_is_waited_for_longer_than_one_that_never_has() -> None:
    spent = {}
    scripts: dict[str, list[Answer | CutError]] = {"never": [REFUSED], "once": [GOOD, REFUSED]}
    for name, outcomes in scripts.items():
        script = Script(outcomes)
        sender = script.sender()
        if name == "once":
            script.run(GET, sender)
        with pytest.raises(UnreachableError):
            script.run(GET, sender)
        spent[name] = script.now
    assert spent["never"] <= 5
    assert 50 < spent["once"] <= 60


def test_B1_what_cannot_be_repeated_is_sent_again_only_if_it_never_arrived() -> None:
    for outcome in (REFUSED, refused(429), refused(503, "NoCapacity")):
        script = Script([outcome, GOOD])
        assert script.run(UNKEYED) == GOOD
        assert script.sent == 2
    for outcome in (ARRIVED, refused(502), refused(504), refused(503, None), refused(500)):
        script = Script([outcome, GOOD])
        with pytest.raises(GatewayError):
            script.run(UNKEYED)
        assert script.sent == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 422, 500])
def test_what_will_be_refused_again_is_not_sent_again(status: int) -> None:
    script = Script([refused(status), GOOD])
    with pytest.raises(GatewayError) as raised:
        script.run(GET)
    assert (raised.value.status, script.sent) == (status, 1)


def test_time_that_is_over_while_nothing_answers_is_said_so() -> None:
    script = Script([ARRIVED], seconds=30)
    with pytest.raises(TimedOutError, match="over"):
        script.run(GET, timeout=5)
    assert script.now == 5


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("120", 120),
        ("Sat, 21 Nov 2026 12:00:30 GMT", 30),
        ("Sat, 21 Nov 2026 11:00:00 GMT", 0),
        ("soon", None),
        ("-1", None),
        ("1e9", None),
        ("9" * 400, None),
        (None, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(text: str | None, seconds: float | None) -> None:
    now = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
    assert error_in(refused(503, retry_after=text), now).retry_after_seconds == seconds


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidRequestError),
        (418, InvalidRequestError),
        (403, ForbiddenError),
        (409, ConflictError),
        (500, GatewayFaultError),
        (503, UnavailableError),
    ],
)
@pytest.mark.parametrize(
    "body", [b"", b"[]", b"null", b'{"reason": 1}', b"\xff", b"[" * 5000, b'{"reason": "X"}']
)
def test_whatever_an_answer_holds_it_becomes_the_error_of_its_status(
    status: int, kind: type[GatewayError], body: bytes
) -> None:
    error = error_in(Answer(status, {"x-request-id": "r"}, body), datetime.now(UTC))
    assert type(error) is kind
    assert (error.status, error.request_id) == (status, "r")
    assert error.detail
    assert error.reason == ("X" if b'"X"' in body else "NoProblem")


def test_every_field_of_a_problem_is_taken_over() -> None:
    body: dict[str, Any] = {
        "reason": "InvalidSpec",
        "detail": "two problems",
        "remedy": "correct them",
        "problems": [{"path": "spec.tool", "message": "is missing", "remedy": "name one"}, 5],
        "requestId": "r1",
    }
    error = error_in(Answer(422, {"retry-after": "2"}, json.dumps(body).encode()), datetime.now(UTC))
    assert (error.reason, error.detail, error.remedy, error.status) == (
        "InvalidSpec",
        "two problems",
        "correct them",
        422,
    )
    assert [str(problem) for problem in error.problems] == ["spec.tool: is missing (name one)"]
    assert (error.retry_after_seconds, error.request_id) == (2, "r1")
    assert str(error) == "two problems; spec.tool: is missing (name one) (correct them)"
