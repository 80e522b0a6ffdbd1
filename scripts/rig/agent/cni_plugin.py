#!/usr/bin/python3 -IS
"""The last plugin of the CNI chain: tells the agent which address a pod has got, before the pod runs.

The agent answers when its rules cover the pod, so that not even the pod's first packet escapes its policies. The
API tells a pod's address too, but a second later.
"""

import json
import os
import socket
import sys
import time

SOCKET = "/run/corral-rig/agent.sock"
# While the agent restarts; the kubelet tries again after a failure.
_PATIENCE_SECONDS = 10.0


def main() -> int:
    command = os.environ.get("CNI_COMMAND", "")
    if command == "VERSION":
        print(json.dumps({"cniVersion": "1.0.0", "supportedVersions": ["0.3.1", "0.4.0", "1.0.0"]}))
        return 0
    configuration = json.load(sys.stdin)
    if command == "ADD":
        result = configuration["prevResult"]
        try:
            _tell({"add": _pod(), "addresses": [ip["address"].split("/")[0] for ip in result["ips"]]})
        except OSError as error:
            message = f"the rig's agent on this node does not answer: {error}"
            print(json.dumps({"cniVersion": configuration["cniVersion"], "code": 11, "msg": message}))
            return 1
        print(json.dumps(result))
    return 0


def _pod() -> str:
    arguments = dict(pair.split("=", 1) for pair in os.environ.get("CNI_ARGS", "").split(";") if "=" in pair)
    return arguments.get("K8S_POD_UID", "")


def _tell(message: dict[str, object]) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(_PATIENCE_SECONDS)
                connection.connect(SOCKET)
                connection.sendall(json.dumps(message).encode() + b"\n")
                answer = connection.recv(1000)
        except (FileNotFoundError, ConnectionRefusedError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
            continue
        if answer != b"ok\n":
            raise OSError(answer.decode(errors="replace").strip() or "it hung up")
        return


if __name__ == "__main__":
    sys.exit(main())
