"""A8, B1, B4, S2: two replicas of the gateway on one PostgreSQL and one Redis: whichever is asked, it is one."""

import concurrent.futures
import itertools
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from chart.cluster import kubectl, namespace
from cluster.gateway_release import Release
from cluster.servers_pod import LABELS, Servers, servers_pod
from eventually import eventually

pytestmark = pytest.mark.timeout(900)

_TO = [{"namespaceSelector": {}, "podSelector": {"matchLabels": LABELS}}]
CALCULATE = {"tool": "calculator", "arguments": {"expression": "6*7"}}
SLEEP = {"tool": "shell", "arguments": {"command": "sleep 300"}}


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with namespace() as name, servers_pod(name) as found:
        yield found


@pytest.fixture(scope="module")
def release(servers: Servers) -> Iterator[Release]:
    with namespace({"pod-security.kubernetes.io/enforce": "restricted"}) as name:
        release = Release(name)
        kubectl("create", "--namespace", name, "-f", "-", stdin=_secret(servers))
        try:
            release.install(
                replicas=2,
                database={"urlSecret": {"name": "shared", "key": "database"}, "to": _TO},
                audit={"signingKeySecret": {"name": "shared"}},
                rateLimits={
                    "caller": "100/minute",
                    "storeSecret": {"name": "shared", "key": "store"},
                    "to": _TO,
                },
            )
            yield release
        finally:
            release.uninstall()


def _secret(servers: Servers) -> dict[str, Any]:
    key = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    values = {"database": servers.database_url, "store": servers.store_url, "audit.key": key.decode()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "shared"}, "stringData": values}


@contextmanager
def _doors(release: Release, role: str = "runner") -> Iterator[tuple[httpx.Client, httpx.Client]]:
    """Open each replica for a new caller, with one key for both."""
    caller = f"twice-{uuid.uuid4().hex[:8]}"
    key = release.corral("keys", "create", caller, "--role", role)
    with ExitStack() as stack:
        urls = [stack.enter_context(release.forwarded(8000, f"pod/{name}")) for name in _names(release)]
        first, second = (
            stack.enter_context(httpx.Client(base_url=url, headers={"X-API-Key": key}, timeout=120))
            for url in urls
        )
        yield first, second


def _names(release: Release) -> list[str]:
    return [pod["metadata"]["name"] for pod in release.pods()]


def test_S2_a_key_opens_both_replicas_and_a_revoked_one_neither(release: Release) -> None:
    with _doors(release) as doors:
        told = [door.get("/v1/whoami").json() for door in doors]
        assert told[0] == told[1]
        release.corral("keys", "revoke", doors[0].headers["X-API-Key"].split("_")[1])
        eventually(lambda: [door.get("/v1/whoami").status_code for door in doors] == [401, 401], seconds=30)


def test_B4_requests_are_counted_together(release: Release) -> None:
    with _doors(release) as doors:
        answers = [doors[number % 2].get("/v1/whoami") for number in range(10)]
        left = [int(answer.headers["X-RateLimit-Remaining"]) for answer in answers]
    # Counted apart, each second one would stand where the one before it stands. A minute may begin anew once.
    assert sum(later >= earlier for earlier, later in itertools.pairwise(left)) <= 1, left


def test_B1_what_one_takes_in_the_other_knows_follows_and_cancels(release: Release) -> None:
    with _doors(release) as (first, second):
        made = first.post("/v1/tasks", json=CALCULATE)
        where = made.headers["location"]
        ended = second.get(where, params={"wait": "90s"}).json()
        assert ended["status"]["executions"][0]["result"] == 42
        events = second.get(f"{where}/events").text
        assert "event: " in events
        assert events == first.get(f"{where}/events").text
        assert [one["metadata"]["uid"] for one in second.get("/v1/tasks").json()["items"]] == [
            ended["metadata"]["uid"]
        ]
        where = first.post("/v1/tasks", json=SLEEP).headers["location"]
        assert second.delete(where).status_code in {200, 202}
        assert first.get(where, params={"wait": "60s"}).json()["status"]["reason"] == "Cancelled"


def test_B1_the_same_key_at_both_at_once_makes_one_task(release: Release) -> None:
    with _doors(release) as doors, concurrent.futures.ThreadPoolExecutor() as pool:
        for _ in range(3):
            headers = {"Idempotency-Key": uuid.uuid4().hex}

            def send(door: httpx.Client, headers: dict[str, str] = headers) -> httpx.Response:
                return door.post("/v1/tasks", params={"wait": "90s"}, json=CALCULATE, headers=headers)

            answers = list(pool.map(send, doors))
            assert len({answer.json()["metadata"]["uid"] for answer in answers}) == 1, [
                a.text for a in answers
            ]


def test_A8_both_write_one_audit_each_execution_once_and_who_is_killed_breaks_nothing(
    release: Release,
) -> None:
    with _doors(release, "admin") as (first, second), concurrent.futures.ThreadPoolExecutor() as pool:
        where = [door.post("/v1/tasks", json=CALCULATE).headers["location"] for door in (first, second) * 3]
        waits = [pool.submit(second.get, each, params={"wait": "90s"}) for each in where]
        victim = ("pod", _names(release)[0], "--namespace", release.namespace)
        kubectl("delete", *victim, "--grace-period=0", "--force")
        tasks = [wait.result().json() for wait in waits]
    assert {task["status"]["reason"] for task in tasks} == {"Completed"}
    # The one in the victim's place sees all tasks that have ended, too, and must not write them down once more.
    eventually(lambda: len(release.pods()) == 2, seconds=180)
    with _doors(release, "auditor") as (_, newest):

        def counts() -> list[int]:
            wanted = [{"kind": "execution", "task": task["metadata"]["uid"]} for task in tasks]
            return [len(newest.get("/v1/audit", params=one).json()["items"]) for one in wanted]

        assert eventually(counts, lambda found: 0 not in found) == [1] * len(tasks)
    assert "signed heads agree" in release.corral("audit", "verify")
