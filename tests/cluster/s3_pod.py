"""An S3 server in a pod: versitygw, brought there over exec, since no image on the nodes has it."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chart.cluster import kubectl
from chart.programs import program
from cluster.gateway_release import image_of_python
from cluster.plain_pod import plain_pod, wait_until_ready
from eventually import eventually

PORT = 7071
LABELS = {"serves": "s3"}
SECRET = "store"
URL = "s3://artifacts/corral"
_NAME = "s3"
#: Waits for the program, and becomes it.
_WAIT = """
import os, time
for place in ("data/artifacts", "meta"):
    os.makedirs("/work/" + place)
while not os.path.exists("/work/ready"):
    time.sleep(0.1)
serve = ["--port", ":7071", "posix", "--sidecar", "/work/meta", "/work/data"]
os.execv("/work/versitygw", ["versitygw", *serve])
"""
_TAKE = """
import os, shutil, sys
with open("/work/versitygw", "wb") as file:
    shutil.copyfileobj(sys.stdin.buffer, file)
os.chmod("/work/versitygw", 0o755)
open("/work/ready", "w").close()
"""
_LIST = """
import os, sys
for folder, _, names in os.walk("/work/data/artifacts/corral"):
    for name in names:
        print(os.path.relpath(os.path.join(folder, name), "/work/data/artifacts/corral"))
"""


class S3Pod:
    """The server, in a namespace."""

    def __init__(self, namespace: str, address: str) -> None:
        self._where = ("--namespace", namespace)
        self.endpoint = f"http://{address}:{PORT}"

    @property
    def kept(self) -> set[str]:
        """What it keeps, as ``UID/NAME``."""
        told = kubectl("exec", *self._where, _NAME, "--", "python3", "-c", _LIST)
        return set(told.split())

    def stop(self) -> None:
        """Take it away, with all that it keeps."""
        kubectl("delete", "pod", *self._where, _NAME, "--ignore-not-found", "--now")


@contextmanager
def s3_pod(namespace: str) -> Iterator[S3Pod]:
    """Run it, with the Secret that holds its keys."""
    where = ("--namespace", namespace)
    kubectl("create", *where, "-f", "-", stdin=[_secret(), _pod()])
    wait_until_ready(namespace, _NAME)
    inside = ("--stdin", _NAME, "--", "python3", "-c", _TAKE)
    with Path(program("versitygw")).open("rb") as file:
        subprocess.run([program("kubectl"), "exec", *where, *inside], stdin=file, check=True, timeout=120)
    found = json.loads(kubectl("get", "pod", *where, _NAME, "-o", "json"))
    server = S3Pod(namespace, found["status"]["podIP"])
    eventually(lambda: _answers(where), seconds=30)
    try:
        yield server
    finally:
        server.stop()


def _answers(where: tuple[str, ...]) -> bool:
    code = f"import socket; socket.create_connection(('127.0.0.1', {PORT}), 1); print('open')"
    told = kubectl(
        "exec", *where, _NAME, "--", "python3", "-c", f"try:\n  {code}\nexcept OSError: print('closed')"
    )
    return told.strip() == "open"


def _secret() -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": SECRET},
        "stringData": {"accessKeyId": "corral", "secretAccessKey": "a-secret-of-the-test"},
    }


def _pod() -> dict[str, object]:
    keys = {"ROOT_ACCESS_KEY": "accessKeyId", "ROOT_SECRET_KEY": "secretAccessKey"}
    env = [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": SECRET, "key": key}}}
        for name, key in keys.items()
    ]
    return plain_pod(_NAME, LABELS, image_of_python(), ["python3", "-c", _WAIT], env=env, work=True)
