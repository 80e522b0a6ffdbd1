"""PostgreSQL and Redis in a pod, for gateways that share them."""

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from chart.cluster import Refused, kubectl
from cluster.plain_pod import plain_pod, wait_until_ready
from eventually import eventually

LABELS = {"serves": "gateways"}
_NAME = "servers"
_SERVE = """
set -eu
cd /work
bin=$(ls -d /usr/lib/postgresql/*/bin | tail -1)
printf %s "$PASSWORD" > password
"$bin/initdb" --pgdata=data --username=corral --pwfile=password --auth=scram-sha-256 --no-sync > /dev/null
echo 'host all all all scram-sha-256' >> data/pg_hba.conf
redis-server --port 6379 --protected-mode no --requirepass "$PASSWORD" --save '' --dir /work &
exec "$bin/postgres" -D data -c "listen_addresses=*" -c unix_socket_directories=/work -c fsync=off
"""
_ANSWER = """
PGPASSWORD="$PASSWORD" psql --host=127.0.0.1 --username=corral --dbname=postgres --command='SELECT 1' > /dev/null
REDISCLI_AUTH="$PASSWORD" redis-cli ping
"""


@dataclass(frozen=True)
class Servers:
    """Where they are."""

    database_url: str
    store_url: str


@contextmanager
def servers_pod(namespace: str) -> Iterator[Servers]:
    """Run them, with nothing in them."""
    where, password = ("--namespace", namespace), secrets.token_hex(16)
    kubectl("create", *where, "-f", "-", stdin=_pod(password))
    wait_until_ready(namespace, _NAME)
    eventually(lambda: _answer(where), seconds=90)
    address = json.loads(kubectl("get", "pod", *where, _NAME, "-o", "json"))["status"]["podIP"]
    try:
        yield Servers(
            f"postgresql://corral:{password}@{address}/postgres", f"redis://:{password}@{address}:6379/0"
        )
    finally:
        kubectl("delete", "pod", *where, _NAME, "--ignore-not-found", "--now")


def _answer(where: tuple[str, ...]) -> bool:
    try:
        return kubectl("exec", *where, _NAME, "--", "sh", "-euc", _ANSWER).strip() == "PONG"
    except Refused:
        return False


def _pod(password: str) -> dict[str, object]:
    image = os.environ.get("CORRAL_TEST_SERVERS_IMAGE", "corral/test-servers:dev")
    env = [{"name": "PASSWORD", "value": password}]
    return plain_pod(_NAME, LABELS, image, ["sh", "-c", _SERVE], env=env, work=True)
