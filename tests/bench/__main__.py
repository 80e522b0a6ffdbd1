"""``make bench``: how fast, how much memory, what is left behind. Ratios within one run; nothing here is a test.

The machine may be shared and noisy, so what is compared is measured in turn, A B A B, and the medians of both are
divided. The reference is a bare ``bwrap … python3 -I -S -c`` that does the same sum.
"""

import argparse
import asyncio
import json
import os
import platform
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench.footprint import Footprint, own_bytes, sandbox_runners
from bench.statistics import Series
from corral.client import AsyncClient
from corral.sandbox.bubblewrap import Installation

CODE = "6 * 7"


def baseline(installation: Installation) -> list[str]:
    """Return the reference: the shortest sandbox that runs Python at all, with no limit, filter or result."""
    prefix = str(installation.prefix)
    return [
        *(str(installation.bwrap), "--unshare-all", "--die-with-parent", "--new-session"),
        *("--ro-bind", "/usr", "/usr", "--symlink", "usr/bin", "/bin", "--symlink", "usr/lib", "/lib"),
        *("--symlink", "usr/lib64", "/lib64", "--ro-bind", prefix, prefix),
        *("--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--"),
        *(str(installation.python), "-I", "-S", "-c", f"print({CODE})"),
    ]


async def run_baseline(command: list[str]) -> None:
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    assert output == b"42\n", output


async def run_warm(client: AsyncClient) -> None:
    task = await client.run("python", code=CODE)
    assert task.result == 42, task.status


async def timed(work: Callable[[], Awaitable[None]]) -> float:
    began = time.perf_counter()
    await work()
    return (time.perf_counter() - began) * 1000


async def latency(rounds: int) -> dict[str, Series]:
    """Measure the reference, a cold and a warm task in turn."""
    command = baseline(Installation.of_this_process())
    series = {name: Series() for name in ("reference", "cold", "warm")}

    async with AsyncClient(waiting=4) as client:
        for _ in range(20):
            await run_warm(client)
        for _ in track(range(rounds), "latency", console=_CONSOLE):
            series["reference"].add(await timed(lambda: run_baseline(command)))
            cold = AsyncClient(waiting=0)
            series["cold"].add(await timed(partial(run_warm, cold)))
            await cold.close()
            await asyncio.sleep(0.02)  # a sandbox is waiting again
            series["warm"].add(await timed(lambda: run_warm(client)))
    return series


async def throughput(tasks: int, parallel: int) -> tuple[float, Series]:
    """Run many small tasks with a few at once.

    Returns:
        Tasks per second, and the time of each in milliseconds.
    """
    series = Series()
    async with AsyncClient(waiting=2 * parallel) as client:
        await asyncio.gather(*(run_warm(client) for _ in range(4 * parallel)))
        left = iter(track(range(tasks), "throughput", console=_CONSOLE))

        async def worker() -> None:
            for _ in left:
                began = time.perf_counter()
                task = await client.run("calculator", expression="42 + 58")
                assert task.result == 100, task.status
                series.add((time.perf_counter() - began) * 1000)

        began = time.perf_counter()
        await asyncio.gather(*(worker() for _ in range(parallel)))
        return tasks / (time.perf_counter() - began), series


async def memory(waiting: int) -> tuple[int, int]:
    """Return the bytes of its own that a waiting sandbox takes (median), and the most."""
    async with AsyncClient(waiting=waiting) as client:
        for _ in range(2 * waiting):
            await run_warm(client)
        await asyncio.sleep(0.5)
        own = sorted(own_bytes(pid) for pid in sandbox_runners())
        return own[len(own) // 2], own[-1]


async def soak(tasks: int, parallel: int) -> dict[str, tuple[int, int]]:
    """Run many tasks; what a client leaves behind, and how this process grows meanwhile."""
    before = Footprint.now()
    async with AsyncClient(waiting=4) as client:
        left = iter(track(range(tasks), "soak", console=_CONSOLE))

        async def worker() -> None:
            for _ in left:
                await run_warm(client)

        await asyncio.gather(*(worker() for _ in range(parallel)))
    return before.compare(Footprint.now())


_CONSOLE = Console(stderr=True)


async def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench BENCH_ARGS=…", description=__doc__)
    parser.add_argument("--rounds", type=int, default=200, help="of the latency measurement")
    parser.add_argument("--tasks", type=int, default=3000, help="of the throughput measurement")
    parser.add_argument("--parallel", type=int, default=4, help="tasks at once")
    parser.add_argument("--soak", type=int, default=10_000, help="tasks of the search for leftovers; 0: none")
    parser.add_argument("--json", type=Path, help="write the figures to a file as well")
    options = parser.parse_args()

    figures: dict[str, object] = {
        "machine": f"{platform.platform()}, {os.cpu_count()} cores, uid {os.geteuid()}"
    }
    series = await latency(options.rounds)
    reference = series["reference"].quantile(0.5)
    table = Table("", "p50 ms", "p90 ms", "p99 ms", "p50 / reference", "target", title="One python task")
    targets = {"reference": "", "warm": "≤ 0.5", "cold": "≤ 2"}
    for name, values in series.items():
        ratio = values.quantile(0.5) / reference
        figures[name] = {**values.summary(), "ratio": round(ratio, 3)}
        table.add_row(
            name, *(f"{values.quantile(q):.2f}" for q in (0.5, 0.9, 0.99)), f"{ratio:.2f}", targets[name]
        )
    output = Console()
    output.print(table)

    rate, values = await throughput(options.tasks, options.parallel)
    figures["throughput"] = {"per_second": round(rate, 1), **values.summary()}
    median, most = await memory(8)
    figures["waiting_sandbox_own_bytes"] = {"p50": median, "max": most}
    table = Table("", "measured", "target", title="Many tasks")
    table.add_row(f"calculator tasks a second, {options.parallel} at once", f"{rate:.0f}", "≥ 250")
    times = " / ".join(f"{values.quantile(q):.1f}" for q in (0.5, 0.9, 0.99))
    table.add_row("each of them, p50 / p90 / p99 ms", times, "")
    table.add_row("memory of a waiting sandbox, its own, MB", f"{median / 1e6:.1f}", "≤ 15")
    if options.soak:
        left = await soak(options.soak, options.parallel)
        figures["soak"] = {"tasks": options.soak, "before_after": left}
        for name, (was, now) in left.items():
            table.add_row(f"{name} before and after {options.soak} tasks", f"{was} → {now}", "no more")
    output.print(table)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
