"""``make bench-cluster``: what a task costs on a cluster. Ratios within one run; nothing here is a test.

The reference for a warm task is what no operator can do without: create a custom resource, patch its status twice,
and see that by a watch; on the same API server, by the same client, in turn with the tasks. The reference for a cold
one is a bare pod of the same image, from create to Succeeded.

KUBECONFIG leads to a cluster where Corral runs; ``--namespace`` is one that it serves.
"""

import argparse
import asyncio
import contextlib
import re
import secrets
import time

import uvloop
from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench.cluster.world import FLOW_SCHEMAS, REFERENCES, Json, World
from bench.statistics import Series
from corral.cluster.kubernetes_api import KubernetesCluster
from corral.cluster.port import AGENT_TASKS, PODS, POOLS, AlreadyExists, ObjectKey
from corral_operator.names import POOL_LABEL, SANDBOX_LABEL

_CONSOLE = Console(stderr=True)
_POOL = "bench"
_PATIENCE_SECONDS = 120
#: Until the operator has done with what was submitted last.
_SETTLE_SECONDS = 15
_DISPATCHED = re.compile(
    r'^apiserver_flowcontrol_dispatched_requests_total\{flow_schema="(?P<schema>corral-bench-[a-z]+)".* '
    r"(?P<count>[0-9.e+]+)$",
    re.MULTILINE,
)
#: What is written for each task, and what is written however many there are; by the operator's account alone.
_WRITES = {
    "task": ("agenttasks", "agenttasks/status", "pods", "pods/resize", "events", "networkpolicies"),
    "background": ("leases", "sandboxpools/status"),
}


def _finished(body: Json) -> bool:
    status = body.get("status") or {}
    if status.get("phase") == "Failed":
        raise SystemExit(f"{body['metadata']['name']} failed: {status.get('message')}")
    return bool(status.get("completionTime"))


def _task(name: str, **spec: object) -> Json:
    return {
        "apiVersion": "corral.dev/v1alpha1",
        "kind": "AgentTask",
        "metadata": {"name": name},
        "spec": {"tool": "calculator", "arguments": {"expression": "6*7"}, **spec},
    }


async def reference(world: World) -> float:
    """Milliseconds of one bare round: create, two status patches, the second one seen by a watch."""
    name = f"reference-{secrets.token_hex(4)}"
    seen = world.until(name, _finished)
    body = {**_task(name), "apiVersion": f"{REFERENCES.group}/{REFERENCES.version}", "kind": "Round"}
    began = time.perf_counter()
    await world.cluster.create(REFERENCES, world.namespace, body)
    for status in ({"phase": "Running"}, {"phase": "Succeeded", "completionTime": "2026-01-01T00:00:00Z"}):
        await world.cluster.patch(REFERENCES, world.namespace, name, {"status": status}, subresource="status")
    return (await asyncio.wait_for(seen, _PATIENCE_SECONDS) - began) * 1000


async def task(world: World, kind: str, **spec: object) -> float:
    """Milliseconds from the create of a task to its end, seen by a watch."""
    name = f"{kind}-{secrets.token_hex(4)}"
    done = world.until(name, _finished)
    began = time.perf_counter()
    await world.cluster.create(AGENT_TASKS, world.namespace, _task(name, **spec))
    return (await asyncio.wait_for(done, _PATIENCE_SECONDS) - began) * 1000


async def bare_pod(world: World, image: str) -> float:
    """Milliseconds of a pod of the sandbox image that ends at once, from create to Succeeded."""
    name = f"bare-{secrets.token_hex(4)}"
    done = world.until(name, lambda body: (body.get("status") or {}).get("phase") == "Succeeded")
    security = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    container = {
        "name": "bare",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-I", "-S", "-c", "print(6*7)"],
        "securityContext": security,
    }
    spec = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "containers": [container],
    }
    began = time.perf_counter()
    pod = await world.cluster.create(
        PODS,
        world.namespace,
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec},
    )
    took = (await asyncio.wait_for(done, _PATIENCE_SECONDS) - began) * 1000
    await world.cluster.delete(PODS, ObjectKey(world.namespace, name, pod["metadata"]["uid"]))
    return took


async def alone(world: World) -> None:
    """See to it that no other pool serves the tasks.

    Raises:
        SystemExit: the namespace has one.
    """
    pools = [pool async for page, _ in world.cluster.pages(POOLS, world.namespace) for pool in page]
    others = [name for pool in pools if (name := pool["metadata"]["name"]) != _POOL]
    if others:
        raise SystemExit(
            f"{world.namespace} has pools that would serve the tasks, too: delete {', '.join(others)}, "
            "or name another namespace (BENCH_ARGS='--namespace …')"
        )


async def scale(world: World, replicas: int) -> None:
    """Give the pool its size, and wait until all its sandboxes are ready and nothing else moves."""
    spec = {"replicas": replicas, "refill": {"perSecond": 50, "burst": 50}}
    body = {
        "apiVersion": "corral.dev/v1alpha1",
        "kind": "SandboxPool",
        "metadata": {"name": _POOL},
        "spec": spec,
    }
    try:
        await world.cluster.create(POOLS, world.namespace, body)
    except AlreadyExists:
        await world.cluster.patch(POOLS, world.namespace, _POOL, {"spec": spec})
    await full(world, replicas)


async def full(world: World, replicas: int) -> None:
    """Wait until so many sandboxes of the pool are ready, and no other pod is left."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        pool = await world.cluster.get(POOLS, world.namespace, _POOL)
        status = pool.get("status") or {}
        pods = [pod async for page, _ in world.cluster.pages(PODS, world.namespace) for pod in page]
        sandboxes = [pod for pod in pods if SANDBOX_LABEL in (pod["metadata"].get("labels") or {})]
        # The status is written once a second at most: as many may be ready by it that have served since.
        unused = [
            pod
            for pod in sandboxes
            if pod["metadata"]["labels"].get(POOL_LABEL) == _POOL
            and pod["metadata"]["name"] not in world.used
            and "deletionTimestamp" not in pod["metadata"]
        ]
        if status.get("ready") == replicas and len(unused) == len(sandboxes) == replicas:
            return
        if time.monotonic() > deadline:
            raise SystemExit(f"the pool did not fill: {status}, {len(pods)} pods")
        await asyncio.sleep(0.1)


async def latency(world: World, rounds: int, pool: int) -> dict[str, Series]:
    """Measure the reference and a warm task in turn."""
    series = {"reference": Series(), "warm": Series()}
    async with world.watching(AGENT_TASKS), world.watching(REFERENCES):
        for number in track(range(rounds + 3), "warm", console=_CONSOLE):
            bare = await reference(world)
            await full(world, pool)
            warm = await task(world, "warm")
            if number >= 3:
                series["reference"].add(bare)
                series["warm"].add(warm)
    return series


async def burst(world: World, size: int, rounds: int) -> Series:
    """Measure the last result of so many tasks at once, from a pool of as many."""
    series = Series()
    async with world.watching(AGENT_TASKS):
        for _ in track(range(rounds), f"{size} at once", console=_CONSOLE):
            await full(world, size)
            began = time.perf_counter()
            await asyncio.gather(*(task(world, "burst") for _ in range(size)))
            series.add((time.perf_counter() - began) * 1000)
    return series


async def cold(world: World, rounds: int, image: str) -> dict[str, Series]:
    """Measure a bare pod and a cold task in turn."""
    series = {"bare pod": Series(), "cold": Series()}
    async with world.watching(AGENT_TASKS), world.watching(PODS):
        for _ in track(range(rounds), "cold", console=_CONSOLE):
            series["bare pod"].add(await bare_pod(world, image))
            # Larger than the pool's sandboxes, so that it gets a pod of its own.
            series["cold"].add(
                await task(
                    world, "cold", tool="python", arguments={"code": "6*7"}, limits={"memory": "600Mi"}
                )
            )
    return series


async def count_writes_of(world: World, account: str) -> None:
    """Have the API server count the writes of one service account, by kind of resource.

    Its request metrics do not say who asked; those of its flow control say which FlowSchema a request fell under,
    and a FlowSchema can name an account and verbs.
    """
    namespace, name = account.split("/")
    for kind, resources in _WRITES.items():
        rule = {
            "verbs": ["create", "update", "patch", "delete", "deletecollection"],
            "apiGroups": ["*"],
            "resources": list(resources),
            "namespaces": ["*"],
        }
        subject = {"kind": "ServiceAccount", "serviceAccount": {"namespace": namespace, "name": name}}
        body = {
            "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
            "kind": "FlowSchema",
            "metadata": {"name": f"corral-bench-{kind}"},
            "spec": {
                "matchingPrecedence": 100,
                "priorityLevelConfiguration": {"name": "workload-high"},
                "rules": [{"subjects": [subject], "resourceRules": [rule]}],
            },
        }
        with contextlib.suppress(AlreadyExists):
            await world.cluster._json("POST", FLOW_SCHEMAS, FLOW_SCHEMAS.path(), body=body)


async def writes(world: World) -> dict[str, float]:
    """Return the API server's own count of the operator's writes."""
    found = dict.fromkeys(_WRITES, 0.0)
    for match in _DISPATCHED.finditer(await world.text("/metrics")):
        found[match["schema"].removeprefix("corral-bench-")] += float(match["count"])
    return found


async def writes_per_task(world: World, tasks: int, pool: int) -> dict[str, float]:
    """Count the writes of so many warm tasks."""
    await full(world, pool)
    before = await writes(world)
    async with world.watching(AGENT_TASKS):
        for _ in track(range(tasks), "writes", console=_CONSOLE):
            await task(world, "count")
            await full(world, pool)
    after = await writes(world)
    return {kind: round((after[kind] - before[kind]) / tasks, 2) for kind in _WRITES}


async def operator_bytes(where: str) -> float:
    """Return the resident memory of the operator, by its own metrics, read from within: its policy lets nobody else."""
    namespace, pod = where.split("/")
    read = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:9090/metrics').read().decode())"
    process = await asyncio.create_subprocess_exec(
        *("kubectl", "--namespace", namespace, "exec", pod, "--", "python3", "-c", read),
        stdout=asyncio.subprocess.PIPE,
    )
    text = (await process.communicate())[0].decode()
    match = re.search(r"^process_resident_memory_bytes ([0-9.e+]+)$", text, re.MULTILINE)
    assert match is not None
    return float(match[1])


async def memory(world: World, finished: int, live: int, where: str) -> dict[str, float]:
    """Measure the operator with so many tasks ended and so many waiting."""
    found = {"start MB": await operator_bytes(where) / 1e6}
    await submit(world, finished, arguments={"expression": 7})
    # These wait for a pod that never fits.
    await submit(world, live, limits={"memory": "8Gi", "cpu": "8"})
    await asyncio.sleep(_SETTLE_SECONDS)
    found[f"{finished} finished, {live} live MB"] = await operator_bytes(where) / 1e6
    return {name: round(value, 1) for name, value in found.items()}


async def growth(world: World, tasks: int, where: str) -> list[float]:
    """Return the operator's memory after each tenth of so many tasks that come, end and are deleted, in MB."""
    found = []
    for _ in range(10):
        await submit(world, tasks // 10, arguments={"expression": 7}, ttlSecondsAfterFinished=1)
        await asyncio.sleep(_SETTLE_SECONDS)
        found.append(round(await operator_bytes(where) / 1e6, 1))
    return found


async def submit(world: World, count: int, **spec: object) -> None:
    """Create so many tasks.

    One that is wrong ends without a sandbox: two thousand pods would measure the nodes.
    """
    gate = asyncio.Semaphore(64)

    async def create() -> None:
        async with gate:
            body = _task(f"m-{secrets.token_hex(6)}", **spec)
            await world.cluster.create(AGENT_TASKS, world.namespace, body)

    for piece in track(range(0, count, 100), "memory", console=_CONSOLE):
        await asyncio.gather(*(create() for _ in range(min(100, count - piece))))


async def main(arguments: argparse.Namespace) -> None:
    cluster = await KubernetesCluster.connect()
    world = World(cluster, arguments.namespace)
    try:
        await alone(world)
        await world.prepare()
        table = Table("measured", "p50", "p90", "p99", "ratio at p50", "target")
        await scale(world, arguments.pool)
        found = await latency(world, arguments.rounds, arguments.pool)
        _row(table, "create + 2 patches + watch, ms", found["reference"])
        _row(table, "warm task, ms", found["warm"], found["reference"], "2")
        _row(
            table,
            f"{arguments.pool} at once, last, ms",
            await burst(world, arguments.pool, 10),
            target="300 ms",
        )
        await count_writes_of(world, arguments.account)
        counted = await writes_per_task(world, arguments.rounds, arguments.pool)
        chilled = await cold(world, arguments.cold_rounds, arguments.image)
        _row(table, "bare pod, create to Succeeded, ms", chilled["bare pod"])
        _row(table, "cold task, ms", chilled["cold"], chilled["bare pod"], "1.15")
        Console().print(table)
        Console().print("the operator's writes per warm task:", counted, "target 4")
        if arguments.operator:
            Console().print(
                "operator's memory:",
                await memory(world, arguments.finished, arguments.live, arguments.operator),
            )
            Console().print(
                "and while an hour's worth comes and goes, MB:",
                await growth(world, arguments.hour, arguments.operator),
            )
    finally:
        await cluster.close()


def _row(table: Table, name: str, series: Series, base: Series | None = None, target: str = "") -> None:
    values = [f"{series.quantile(q):.1f}" for q in (0.5, 0.9, 0.99)]
    ratio = "" if base is None else f"{series.quantile(0.5) / base.quantile(0.5):.2f}"
    table.add_row(name, *values, ratio, target)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="make bench-cluster")
    parser.add_argument("--namespace", default="default")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--cold-rounds", type=int, default=10)
    parser.add_argument("--pool", type=int, default=12)
    parser.add_argument("--image", default="corral/sandbox:dev")
    parser.add_argument("--account", default="default/corral-operator", help="NAMESPACE/NAME of the operator")
    parser.add_argument("--operator", default="", help="NAMESPACE/POD, for its memory")
    parser.add_argument("--finished", type=int, default=2000)
    parser.add_argument("--live", type=int, default=200)
    parser.add_argument("--hour", type=int, default=3600, help="tasks in an hour's worth")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(parser.parse_args()))
