"""``python -m corral.catalogue.checking_process``: validates arguments, and dies of what takes too much.

Reads requests of ``ArgumentChecker``, one JSON object a line, and answers each with a line. What ends a request that
takes too long is the kernel: a timer whose signal nobody handles, so that it also ends C code that holds the
interpreter, such as a regular expression that backtracks.
"""

import json
import resource
import signal
import sys
from dataclasses import asdict
from typing import Any

from corral.api import Tool
from corral.api.tool import TRUSTED
from corral.catalogue.arguments import validate_arguments

#: CPU seconds of one request. The largest arguments that a task can have take less.
MAX_CPU_SECONDS = 1.0
#: Python with jsonschema takes a tenth of it.
MAX_MEMORY_BYTES = 512 << 20


def main() -> None:
    """Answer until there is nobody left to ask."""
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    # An interrupt of the terminal is for the parent; this process ends with its input.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for line in sys.stdin.buffer:
        signal.setitimer(signal.ITIMER_PROF, MAX_CPU_SECONDS)
        answer = _answer(line)
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stdout.buffer.write(answer)
        sys.stdout.buffer.flush()


def _answer(line: bytes) -> bytes:
    try:
        request: dict[str, Any] = json.loads(line)
        # Checked when it was made: what is asked here are the arguments.
        tool = Tool.model_validate(request["tool"], context={TRUSTED: True})
        problems = validate_arguments(tool, request["arguments"])
        return json.dumps([asdict(problem) for problem in problems]).encode() + b"\n"
    except (MemoryError, RecursionError):
        signal.raise_signal(signal.SIGPROF)  # the same end as for what takes too long
        raise


if __name__ == "__main__":
    main()
