"""What `helm test` runs: one task, from its creation to its result.

Usage: run_task.py NAMESPACE TIMEOUT_SECONDS
"""

import json
import signal
import sys
import time

from cluster_api import ApiError, call


def main() -> int | str:
    """Create the task, wait until it has ended, delete it, and say how it went."""
    namespace, timeout_seconds = sys.argv[1], float(sys.argv[2])
    # Ended from outside, it still deletes its task.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended from outside"))
    tasks = f"/apis/corral.dev/v1alpha1/namespaces/{namespace}/agenttasks"
    task = {
        "apiVersion": "corral.dev/v1alpha1",
        "kind": "AgentTask",
        "metadata": {"generateName": "helm-test-"},
        "spec": {
            "tool": "calculator",
            "arguments": {"expression": "42 + 58"},
            "activeDeadlineSeconds": max(1, int(timeout_seconds)),
            # Whatever becomes of this program.
            "ttlSecondsAfterFinished": 600,
        },
    }
    created = call("POST", tasks, json.dumps(task).encode())
    name = created["metadata"]["name"]
    print(f"created {name} in {namespace}", flush=True)
    try:
        status = _wait(f"{tasks}/{name}", time.monotonic() + timeout_seconds)
    finally:
        call("DELETE", f"{tasks}/{name}")
    return _verdict(status)


def _wait(path: str, deadline: float) -> dict[str, object]:
    status: dict[str, object] = {}
    told = None
    while time.monotonic() < deadline:
        try:
            status = call("GET", path).get("status") or {}
        except OSError as error:
            print(f"no answer: {error}", flush=True)
        except ApiError as error:
            if error.status != 429 and error.status < 500:
                raise
        if status.get("phase") != told:
            told = status.get("phase")
            print(f"phase {told}", flush=True)
        if status.get("reason"):
            return status
        time.sleep(0.2)
    return status


def _verdict(status: dict[str, object]) -> int | str:
    print(json.dumps(status, indent=2))
    executions = status.get("executions")
    last = executions[-1] if isinstance(executions, list) and executions else {}
    if status.get("reason") == "Completed" and last.get("result") == 100:
        print("42 + 58 = 100: Corral works")
        return 0
    if not status:
        return "no operator has looked at the task: is one ready, and does it serve this namespace?"
    return f"the task ended with reason {status.get('reason')}: {status.get('message')}"


if __name__ == "__main__":
    sys.exit(main())
