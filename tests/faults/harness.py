"""Runs in a pod: the proxy, the operators, the recorder; commands come as JSON lines, answers go back the same way.

Its pod carries the operator's labels, so that the network policy of the sandboxes lets the recorder in. Whoever
started it holds its standard input: when that closes, everything ends.
"""

import asyncio
import base64
import dataclasses
import json
import os
import random
import secrets
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import Any

from faults.api import Api, ApiError
from faults.counting import PodRecord, count
from faults.faultplan import FaultPlan, Rule, WatchFaults
from faults.operators import KillPlan, Operators
from faults.proxy import Proxy
from faults.recorder import Recorder

Json = dict[str, Any]

_OWN = os.environ["CORRAL_FAULTS_NAMESPACE"]
_KEY_PATH = f"/api/v1/namespaces/{_OWN}/secrets"


class Harness:
    """What the commands work on."""

    def __init__(self, api: Api, key: bytes) -> None:
        self._api = api
        self._key = key
        self._operators = Operators()
        self._proxy = Proxy(api, self._operators)
        self._recorders: dict[str, Recorder] = {}
        self._taken: set[str] = set()
        self._background: set[asyncio.Task[Any]] = set()

    # --- objects ---

    async def do_open(self, namespace: str) -> None:
        """Make a namespace and record it; forget the faults and the journal of the one before."""
        self._proxy.replace_plan(FaultPlan())
        self._proxy.journal.writes.clear()
        self._taken.clear()
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
        await self._api.ask("POST", "/api/v1/namespaces", body)
        recorder = Recorder(self._api, namespace, self._key)
        recorder.on_started = lambda pod: self._started(recorder, namespace, pod)
        self._recorders[namespace] = recorder
        recorder.begin()

    async def do_close(self, namespace: str) -> None:
        """End the operators and the recording; take the namespace away, without waiting for it."""
        await self._operators.stop_all()
        recorder = self._recorders.pop(namespace, None)
        if recorder is not None:
            await recorder.end()
        await self.do_ask("DELETE", f"/api/v1/namespaces/{namespace}")

    async def do_ask(self, method: str, path: str, body: Json | None = None) -> Json:
        """Ask the API server anything, past the proxy. A refusal is an answer with ``error``."""
        try:
            return await self._api.ask(method, path, body)
        except ApiError as error:
            return {"error": error.status, "message": str(error)}

    async def do_apply(self, objects: list[tuple[str, Json]]) -> list[str]:
        """Create objects at their paths, in parallel; return their UIDs."""
        made = await asyncio.gather(*(self._api.ask("POST", path, body) for path, body in objects))
        return [one["metadata"]["uid"] for one in made]

    def _started(self, recorder: Recorder, namespace: str, pod: PodRecord) -> None:
        if recorder.is_to_be_taken(pod) and pod.uid not in self._taken:
            self._taken.add(pod.uid)
            path = f"/api/v1/namespaces/{namespace}/pods/{pod.name}?gracePeriodSeconds=0"
            task = asyncio.get_running_loop().create_task(self.do_ask("DELETE", path))
            self._background.add(task)
            task.add_done_callback(self._background.discard)

    # --- operators ---

    async def do_start(self, name: str, env: dict[str, str]) -> None:
        """Start an operator, and again whenever it dies."""
        await self._operators.start(name, await self._proxy.port_for(name), env)

    async def do_stop(self, name: str, number: int = signal.SIGTERM) -> None:
        """End an operator for good."""
        await self._operators.stop(name, number)

    async def do_signal(self, name: str, number: int) -> None:
        """Send an operator a signal."""
        self._operators.children[name].send(number)

    async def do_step_clock(self, name: str, seconds: float) -> None:
        """Move an operator's wall clock."""
        self._operators.children[name].step_clock(seconds)

    async def do_kill_at_writes(
        self,
        *,
        name: str,
        seed: int,
        stages: list[Any],
        gap: list[int],
        kills: int,
        kinds: Sequence[str] = (),
    ) -> None:
        """Kill an operator at writes chosen by a seed."""
        plan = KillPlan(random.Random(seed), tuple(stages), (gap[0], gap[1]), kills, frozenset(kinds))
        self._operators.children[name].follow(plan)

    async def do_kills(self, name: str) -> list[str]:
        """Return at what an operator was killed."""
        plan = self._operators.children[name].plan
        return [] if plan is None else plan.done

    async def do_operator(self, name: str) -> Json:
        """Return how an operator fares."""
        child = self._operators.children[name]
        return {"starts": child.starts, "peak": child.peak_bytes(), "log": child.log(20_000)}

    # --- faults ---

    async def do_faults(self, seed: int, rules: list[Json], watches: Json) -> None:
        """Make these faults from now on, and no others."""
        found = [rule_of(rule) for rule in rules]
        made = self._proxy.plan.made
        self._proxy.replace_plan(FaultPlan(seed, found, WatchFaults(**watches), random.Random(seed), made))

    async def do_outage(self, seconds: float) -> None:
        """Let the API server be away for so long, for operators."""
        self._proxy.go_away(seconds)

    async def do_made(self) -> dict[str, int]:
        """Return how many faults were made, by kind."""
        return self._proxy.plan.made

    async def do_forget_made(self) -> None:
        """Count the faults from 0 again."""
        self._proxy.plan.made.clear()

    async def do_writes(self) -> dict[str, int]:
        """Return how many writes were done, by kind."""
        return self._proxy.journal.totals()

    # --- what came of it ---

    async def do_take(self, pods: list[str]) -> None:
        """Say that these pods are being taken away by the test."""
        self._taken.update(pods)

    async def do_count(self, namespace: str, repeatable: list[str], only: list[str]) -> Json:
        """Count executions; see ``faults.counting``."""
        recorder = self._recorders[namespace]
        found = count(
            recorder.tasks.values(),
            recorder.pods.values(),
            repeatable=frozenset(repeatable),
            taken=frozenset(self._taken),
            only=frozenset(only),
        )
        return found.to_json()

    async def do_tasks(self, namespace: str) -> list[Json]:
        """Return name, labels and status of every task, deleted ones included."""
        return [
            {"name": t["metadata"]["name"], "uid": t["metadata"]["uid"], "status": t.get("status") or {}}
            for t in self._recorders[namespace].tasks.values()
        ]

    async def do_pods(self, namespace: str) -> list[Json]:
        """Return every sandbox pod that there was."""
        return [
            {
                **{f.name: getattr(pod, f.name) for f in dataclasses.fields(pod) if f.name != "frames"},
                "labels": dict(pod.labels),
                "started": pod.started(),
                "ended": pod.result() is not None,
            }
            for pod in self._recorders[namespace].pods.values()
        ]

    async def do_present(self, namespace: str) -> dict[str, int]:
        """Return how many sandbox pods and tasks there are now."""
        return {kind: len(uids) for kind, uids in self._recorders[namespace].present.items()}


def rule_of(given: Json) -> Rule:
    """Return a rule as commands write it."""
    fields: Json = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    return Rule(**fields)


async def runner_key(api: Api) -> bytes:
    """Return the key that operators here will find, made if it is not there."""
    try:
        secret = await api.ask("GET", f"{_KEY_PATH}/corral-runner-key")
    except ApiError:
        secret = await api.ask(
            "POST",
            _KEY_PATH,
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "corral-runner-key"},
                "data": {"key": base64.b64encode(secrets.token_bytes(32)).decode()},
            },
        )
    return base64.b64decode(secret["data"]["key"])


async def serve() -> None:
    """Serve commands until standard input ends."""
    reader = asyncio.StreamReader(limit=64 << 20)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with Api() as api:
        harness = Harness(api, await runner_key(api))

        async def answer(line: bytes) -> None:
            command = json.loads(line)
            try:
                value = await getattr(harness, f"do_{command['op']}")(**command["with"])
                reply = {"id": command["id"], "value": value}
            except Exception:  # noqa: BLE001 - the test is told, whatever it was
                reply = {"id": command["id"], "error": traceback.format_exc()}
            sys.stdout.write(json.dumps(reply) + "\n")
            sys.stdout.flush()

        working = set()
        async for line in reader:
            task = loop.create_task(answer(line))
            working.add(task)
            task.add_done_callback(working.discard)
        await harness._operators.stop_all()


if __name__ == "__main__":
    asyncio.run(serve())
