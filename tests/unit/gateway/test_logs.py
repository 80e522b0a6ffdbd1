"""The log: whole lines for programs, and nothing in them that proves anybody's identity."""

import io
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from corral_gateway.context import CURRENT, RequestContext
from corral_gateway.identity.api_key import make_key
from corral_gateway.identity.caller import Caller
from corral_gateway.identity.roles import Role
from corral_gateway.logs import set_up_logging, without_secrets

_, KEY = make_key("someone", Role.RUNNER, datetime.now(UTC))
TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJzb21lb25lIn0.c2lnbmF0dXJl"


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_M8_a_line_is_an_object_that_names_request_and_caller() -> None:
    stream = io.StringIO()
    set_up_logging(debug=False, json_lines=True, stream=stream)
    context = RequestContext("http", "GET", "127.0.0.1", caller=Caller("someone", frozenset()))
    token = CURRENT.set(context)
    try:
        logging.getLogger("corral_gateway.some").warning("it %s", "happened\nindeed", extra={"status": 503})
    finally:
        CURRENT.reset(token)
    (line,) = stream.getvalue().splitlines()
    told = json.loads(line)
    assert told.pop("timestamp").endswith("Z")
    assert told == {
        "event": "it happened\nindeed",
        "level": "warning",
        "logger": "corral_gateway.some",
        "request_id": context.id,
        "caller": "someone",
        "status": 503,
    }


@pytest.mark.parametrize("form", ["json", "text"])
def test_M5_no_secret_gets_into_the_log_not_even_in_a_traceback(form: str) -> None:
    stream = io.StringIO()
    set_up_logging(debug=True, json_lines=form == "json", stream=stream)
    try:
        int(f"cannot reach postgresql://corral:hunter2@db/corral with {KEY}")
    except ValueError:
        logging.getLogger("x").exception("Authorization: Bearer %s", TOKEN, extra={"key": KEY})
    text = stream.getvalue()
    assert "Traceback" in text
    assert KEY.split("_")[1] in text  # its public part tells which
    for secret in (KEY.split("_", 2)[2], TOKEN, TOKEN.split(".")[1], "hunter2"):
        assert secret not in text


def test_M5_what_is_no_secret_stays_as_it_is() -> None:
    text = "corral run -f task.yaml; http://127.0.0.1:8000/v1/tasks; a bearer: of news"
    assert without_secrets(text) == text
