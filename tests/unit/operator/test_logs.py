"""Log lines."""

import json
import logging
import sys
from collections.abc import Iterator

import pytest

from corral_operator.logs import JsonFormatter, set_up_logging


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root, kopf = logging.getLogger(), logging.getLogger("kopf")
    before = root.level, kopf.level, list(root.handlers)
    yield
    root.setLevel(before[0])
    kopf.setLevel(before[1])
    root.handlers[:] = before[2]


def _fail() -> None:
    raise ValueError("wrong\nin two lines")


def _record(message: str, *arguments: object, error: bool = False) -> logging.LogRecord:
    found = None
    if error:
        try:
            _fail()
        except ValueError:
            found = sys.exc_info()
    record = logging.LogRecord("corral_operator.x", logging.WARNING, "x.py", 1, message, arguments, found)
    record.created = 1767268800.25
    return record


def test_M9_a_log_line_is_one_json_object() -> None:
    line = JsonFormatter().format(_record("task %s: “%s”", "job", "two\nlines"))
    assert "\n" not in line
    assert json.loads(line) == {
        "time": "2026-01-01T12:00:00.250+00:00",
        "level": "warning",
        "logger": "corral_operator.x",
        "message": "task job: “two\nlines”",
    }


def test_M9_an_error_is_told_with_its_traceback_in_the_same_line() -> None:
    line = JsonFormatter().format(_record("failed", error=True))
    assert "\n" not in line
    assert "ValueError: wrong\nin two lines" in json.loads(line)["error"]


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_M9_logs_go_to_stderr_and_kopf_is_quiet(capsys: pytest.CaptureFixture[str], log_format: str) -> None:
    set_up_logging(log_format)
    logging.getLogger("corral_operator.x").info("hello")
    logging.getLogger("corral_operator.x").debug("nothing")
    logging.getLogger("kopf.objects").info("too much")
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert "hello" in line
    assert (log_format == "json") == line.startswith("{")
