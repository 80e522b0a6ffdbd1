"""What every ``SandboxBackend`` does besides giving sandboxes (M12)."""

import asyncio
from collections.abc import Callable

import pytest

from corral.sandbox.errors import SandboxError, SandboxLostError
from corral.sandbox.port import SandboxBackend, SandboxNeeds
from sandboxes import LIMITS, Lab, request, run_in, shell

pytestmark = pytest.mark.asyncio(loop_scope="session")

NEEDS = SandboxNeeds(LIMITS.disk_bytes)
NewBackend = Callable[[], SandboxBackend]


async def test_closing_ends_every_sandbox(new_backend: NewBackend) -> None:
    async with new_backend() as backend:
        sandboxes = [await backend.acquire(NEEDS) for _ in range(3)]
        for sandbox in sandboxes:
            await sandbox.start(request(shell("sleep 60")))
    for sandbox in sandboxes:
        with pytest.raises(SandboxLostError):
            async for _frame in sandbox.frames():
                pass


async def test_a_closed_backend_gives_nothing(new_backend: NewBackend) -> None:
    async with new_backend() as backend:
        pass
    await backend.close()
    with pytest.raises(SandboxError):
        await backend.acquire(NEEDS)


async def test_a_backend_that_gave_nothing_closes(new_backend: NewBackend) -> None:
    await new_backend().close()


async def test_every_sandbox_is_given_once(lab: Lab) -> None:
    for _ in range(5):
        assert (
            await lab.shell("ls /workspace /tmp; touch /workspace/used /tmp/used")
        ).stdout == "/tmp:\n\n/workspace:\n"


async def test_a_caller_who_goes_away_leaves_no_sandbox_behind(lab: Lab) -> None:
    """Cancelled while it waits for a sandbox, or while it has one; the backend goes on."""
    for pause in (0, 0.001, 0.01, 0.05, 0.2):
        task = asyncio.get_running_loop().create_task(lab.shell("sleep 60"))
        await asyncio.sleep(pause)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert (await lab.shell("echo ok")).stdout == "ok\n"


async def test_release_and_close_in_any_order(lab: Lab) -> None:
    sandbox = await lab.backend.acquire(NEEDS)
    await sandbox.close()
    assert (await run_in(sandbox, request(shell("echo no")))).reason == "SandboxFailed"
    lab.backend.release(sandbox)
    lab.backend.release(sandbox)
    await sandbox.close()


async def test_a_name_and_no_weakness(lab: Lab) -> None:
    assert lab.backend.name in {"embedded", "docker", "kubernetes"}
    assert lab.backend.weakened == ()
