"""What operator and gateway have to call the same: one makes it, the other looks for it."""

from corral.api import GROUP

#: Who asked for a task; stamped by the gateway. Waiting tasks are served in turn between callers.
CALLER_LABEL = f"{GROUP}/caller"
#: ``true`` where the pod's container is Corral's runner, ``false`` where it is a tool's own program.
RUNNER_LABEL = f"{GROUP}/runner"
#: Where the runner listens, on the pod's own address.
RUNNER_PORT = 7070
#: The Secret with the key that the runners' tokens are derived from.
RUNNER_KEY_SECRET = "corral-runner-key"  # noqa: S105 - a name
