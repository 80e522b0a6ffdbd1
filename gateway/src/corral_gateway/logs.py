"""The log: a line per event, with the request and the task it is about, and no secret in any of them."""

import logging
import re
import sys
from collections.abc import Callable, MutableMapping
from typing import Any, TextIO

import structlog

from corral_gateway.context import CURRENT

_Event = MutableMapping[str, Any]


def _token(match: re.Match[str]) -> str:
    """Mask a signed token; what only begins like one stays."""
    return f"{match[1]}…" if match[2] is not None else match[0]


#: What proves somebody's identity, in the forms in which it is sent and configured: whoever logs it by mistake, the
#: line says what kind it was. The first group stays. None goes back over what it has read: others choose the text.
_SECRETS: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = (
    (re.compile(r"(corral_[0-9a-f]{12}_)[A-Za-z0-9_-]{20,}+"), r"\1…"),
    (re.compile(r"(eyJ)[A-Za-z0-9_-]{8,}+(\.[A-Za-z0-9_-]*+\.[A-Za-z0-9_-]*+)?"), _token),
    (re.compile(r"(?i)(\bbearer )[^\s\"',]++"), r"\1…"),
    (re.compile(r"(://[^\s/:@\"']*+:)[^\s/@\"']++(?=@)"), r"\1…"),
)


def set_up_logging(*, debug: bool, json_lines: bool, stream: TextIO | None = None) -> None:
    """Send what this process logs, its libraries too, to one stream.

    Args:
        debug: also what is of interest only to who looks for a fault.
        json_lines: for programs, an object a line; else for people.
        stream: standard error by default.
    """
    stream = stream or sys.stderr
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_request,
    ]
    last: list[structlog.typing.Processor]
    if json_lines:
        last = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        last = [
            structlog.dev.ConsoleRenderer(
                colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback
            )
        ]
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        _WithoutSecrets(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG if debug else logging.INFO)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):  # they come with handlers of their own
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    # A line per connection, statement or migration says nothing about a task.
    for name in ("aiosqlite", "alembic", "asyncio", "botocore", "httpcore", "s3fs"):
        logging.getLogger(name).setLevel(logging.WARNING)


def without_secrets(text: str) -> str:
    """Return a text in which nothing proves anybody's identity any more."""
    for pattern, rest in _SECRETS:
        text = pattern.sub(rest, text)
    return text


class _WithoutSecrets(structlog.stdlib.ProcessorFormatter):
    """Looks at the whole line, tracebacks included: a secret may be anywhere in it."""

    def format(self, record: logging.LogRecord) -> str:
        return without_secrets(super().format(record))


def _add_request(_logger: Any, _method: str, event: _Event) -> _Event:
    """Add the request that is worked on here, and who sent it."""
    event.pop("color_message", None)  # of uvicorn: the same text again, in colours
    request = CURRENT.get()
    if request is not None:
        event.setdefault("request_id", request.id)
        if request.caller is not None:
            event.setdefault("caller", request.caller.name)
    return event
