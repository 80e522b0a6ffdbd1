"""What `helm test` asks of the gateway: that it answers, and, with a key, one task from its request to its result.

Usage: run_gateway_task.py URL TIMEOUT_SECONDS; the key in CORRAL_KEY.
"""

import json
import os
import sys
import time
import urllib.error
import urllib.request
from typing import Any


def main() -> int | str:
    """Ask, and say how it went."""
    url, timeout_seconds = sys.argv[1], float(sys.argv[2])
    health = _until_it_answers(f"{url}/health", time.monotonic() + timeout_seconds)
    print(f"{url} answers: {json.dumps(health)}", flush=True)
    key = os.environ.get("CORRAL_KEY", "")
    if not key:
        refused = _status(urllib.request.Request(f"{url}/v1/tools"))  # noqa: S310 - an address of the chart's
        if refused != 401:
            return f"without a key it answers {refused}, not 401"
        print("without a key it refuses; test.gatewayKeySecret names one for a whole task")
        return 0
    body = {
        "tool": "calculator",
        "arguments": {"expression": "42 + 58"},
        "activeDeadlineSeconds": max(1, int(timeout_seconds)),
        "ttlSecondsAfterFinished": 600,
    }
    request = urllib.request.Request(  # noqa: S310 - an address of the chart's
        f"{url}/v1/tasks?wait={max(1, int(timeout_seconds))}s",
        json.dumps(body).encode(),
        {"X-API-Key": key, "Content-Type": "application/json"},
    )
    try:
        status = _answer(request, timeout_seconds + 10).get("status") or {}
    except urllib.error.HTTPError as error:
        return f"the gateway refuses the task: {error.read().decode('utf-8', 'replace')}"
    print(json.dumps(status, indent=2))
    executions = status.get("executions") or [{}]
    if status.get("reason") == "Completed" and executions[-1].get("result") == 100:
        print("42 + 58 = 100: the gateway works")
        return 0
    return f"the task ended with reason {status.get('reason')}: {status.get('message')}"


def _until_it_answers(url: str, deadline: float) -> Any:
    while True:
        try:
            return _answer(urllib.request.Request(url), 5)  # noqa: S310 - an address of the chart's
        except OSError as error:
            if time.monotonic() > deadline:
                sys.exit(f"{url} does not answer: {error}")
            time.sleep(0.5)


def _answer(request: urllib.request.Request, seconds: float) -> Any:
    with urllib.request.urlopen(request, timeout=seconds) as answer:  # noqa: S310 - an address of the chart's
        return json.load(answer)


def _status(request: urllib.request.Request) -> int:
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - an address of the chart's
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


if __name__ == "__main__":
    sys.exit(main())
