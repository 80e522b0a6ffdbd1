"""Operators as child processes: started, killed at a write, frozen, woken, started again."""

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faults.journal import Stage, Write

#: Killed at its first write of each life, an operator whose first write is always the same would never get further.
_ENOUGH_OF_A_KIND = 8
_LOGS = Path(tempfile.gettempdir())


@dataclass(slots=True)
class KillPlan:
    """At which writes an operator is killed: gaps and stages by seeded chance."""

    chance: random.Random
    stages: tuple[Stage, ...]
    gap: tuple[int, int]
    #: How many kills at most.
    left: int
    #: At writes of these kinds alone, as ``create pods``; none: at any.
    kinds: frozenset[str] = frozenset()
    #: Writes of this life until the next one.
    until: int = 0
    #: What it was killed at, in words.
    done: list[str] = field(default_factory=list)


class Child:
    """One operator: a process, its successor after each death, and one more that only waits to be needed."""

    def __init__(self, name: str, env: dict[str, str]) -> None:
        self.name = name
        self.restart = True
        self.starts = 0
        self.plan: KillPlan | None = None
        self._env = env
        self._process: asyncio.subprocess.Process | None = None
        self._spare: asyncio.subprocess.Process | None = None
        self._watch: asyncio.Task[None] | None = None
        self._log = (_LOGS / f"operator-{name}.log").open("wb")

    async def start(self) -> None:
        """Start it, and see to it that it is started again when it dies."""
        self.restart = True
        await self._begin()
        self._watch = asyncio.get_running_loop().create_task(self._keep())

    def send(self, number: int) -> None:
        """Send a signal."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """Kill it now."""
        self.send(signal.SIGKILL)

    def step_clock(self, seconds: float) -> None:
        """Move its wall clock."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(f"step {seconds}\n".encode())

    async def stop(self, number: int = signal.SIGTERM) -> None:
        """End it for good."""
        self.restart = False
        self.send(signal.SIGCONT)
        self.send(number)
        if self._watch is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._watch), 10)
            self.kill()
            await self._watch
        if self._spare is not None and self._spare.returncode is None:
            self._spare.kill()
            await self._spare.wait()

    def peak_bytes(self) -> int:
        """Return the most memory that the present process has had."""
        assert self._process is not None
        for line in Path(f"/proc/{self._process.pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        return 0

    def log(self, characters: int) -> str:
        """Return the end of what it logged."""
        return Path(self._log.name).read_text(encoding="utf-8", errors="replace")[-characters:]

    async def _begin(self) -> None:
        self._process = self._spare or await self._spawn()
        self._spare = None
        assert self._process.stdin is not None
        self._process.stdin.write(b"go\n")
        self.starts += 1
        if self.plan is not None:
            self._arm()
            self._spare = await self._spawn()

    async def _spawn(self) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "faults.launcher",
            env={**os.environ, **self._env},
            stdin=asyncio.subprocess.PIPE,
            stdout=self._log,
            stderr=self._log,
        )

    async def _keep(self) -> None:
        while True:
            assert self._process is not None
            await self._process.wait()
            if not self.restart:
                return
            await self._begin()

    # --- killing at writes ---

    def follow(self, plan: KillPlan) -> None:
        """Die by a plan from now on."""
        self.plan = plan
        self._arm()

    def _arm(self) -> None:
        if self.plan is not None:
            self.plan.until = self.plan.chance.randint(*self.plan.gap) if self.plan.left > 0 else 0

    def last(self, write: Write) -> Stage | None:
        """Return at which stage of this write it dies."""
        plan = self.plan
        if plan is None or not plan.until or not write.number:
            return None
        kind = write.request.kind
        if plan.kinds and kind not in plan.kinds:
            return None
        if sum(one.startswith(f"{kind} ") for one in plan.done) >= _ENOUGH_OF_A_KIND:
            return None
        plan.until -= 1
        if plan.until:
            return None
        plan.left -= 1
        stage = plan.chance.choice(plan.stages)
        plan.done.append(f"{kind} {stage}")
        return stage


class Operators:
    """All of them, by name."""

    def __init__(self) -> None:
        self.children: dict[str, Child] = {}

    async def start(self, name: str, port: int, env: dict[str, str]) -> Child:
        """Start one that reaches the API server through a port of the proxy.

        Raises:
            ValueError: one of this name runs. Both would hold the Lease under one identity, and the first, which
                nobody could end any more, would renew it through every later test.
        """
        if name in self.children:
            raise ValueError(f"an operator {name} runs already; two scenes cannot have one at a time")
        config: Any = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "proxy",
            "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "proxy"}}],
            "clusters": [{"name": "proxy", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
            "users": [{"name": "proxy", "user": {"token": "the-proxy-has-its-own"}}],
        }
        path = _LOGS / f"kubeconfig-{name}"
        path.write_text(json.dumps(config), encoding="ascii")
        child = Child(name, {**env, "KUBECONFIG": str(path), "CORRAL_IDENTITY": f"faults-{name}"})
        self.children[name] = child
        await child.start()
        return child

    async def stop(self, name: str, number: int) -> None:
        """End one for good."""
        await self.children[name].stop(number)
        del self.children[name]

    async def stop_all(self) -> None:
        """End all of them."""
        for name in list(self.children):
            await self.stop(name, signal.SIGKILL)

    def last(self, write: Write) -> Stage | None:
        child = self.children.get(write.client)
        return None if child is None else child.last(write)

    def kill(self, client: str) -> None:
        self.children[client].kill()
