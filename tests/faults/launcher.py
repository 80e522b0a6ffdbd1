"""Starts an operator whose modules are imported already: it waits for a line, then it is what the image runs.

A line ``step SECONDS`` on standard input later moves the wall clock that the operator sees, and nothing else:
no container may set the node's clock, and the operator reads its own in one module.
"""

import datetime as dt
import sys
import threading
import time

import corral_operator.clock
from corral_operator.__main__ import main

_read_time = time.time
_offset = 0.0


class SteppedDatetime(dt.datetime):
    """``datetime`` on a wall clock that steps."""

    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> "SteppedDatetime":
        return cls.fromtimestamp(_read_time() + _offset, tz)


def _listen() -> None:
    global _offset  # noqa: PLW0603 - a clock is one
    for line in sys.stdin:
        _offset += float(line.split()[1])


if __name__ == "__main__":
    corral_operator.clock.datetime = SteppedDatetime  # type: ignore[attr-defined]
    time.time = lambda: _read_time() + _offset
    sys.stdin.readline()
    threading.Thread(target=_listen, daemon=True).start()
    main()
