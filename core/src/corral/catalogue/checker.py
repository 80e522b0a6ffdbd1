"""Whether arguments fit a tool's input schema, found out in a process of its own.

Who may write a Tool and a task may write a schema and arguments that keep a validator busy for ever or take all memory:
a regular expression that backtracks, references that double at every level. A program that serves others must not
do that work itself.
"""

import asyncio
import contextlib
import hashlib
import json
import sys
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from corral.api import Problem, Tool

_PROCESS = "corral.catalogue.checking_process"
#: The process counts CPU time; on a machine that does much else it may take so much longer.
_MAX_WALL_SECONDS = 30.0
_DYING_SECONDS = 1.0
#: Fifty problems, each with a message of a few hundred characters, and a sentence with what is known.
_MAX_ANSWER_BYTES = 16 << 20
#: Verdicts that are kept: of all steps of all tasks that are worked on, and more.
_KEPT = 8192


class CheckerUnavailableError(Exception):
    """The process could not be started. Nothing was found out."""


class ArgumentChecker:
    """Finds out and remembers; of one event loop."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._one_at_a_time = asyncio.Lock()
        self._verdicts: OrderedDict[bytes, tuple[Problem, ...]] = OrderedDict()

    def known(self, tool: Tool, arguments: Mapping[str, Any]) -> tuple[Problem, ...] | None:
        """Return what is known to be wrong with the arguments of a call; None: they were not checked."""
        return self._remembered(_digest(tool, arguments))

    async def check(self, tool: Tool, arguments: Mapping[str, Any]) -> tuple[Problem, ...]:
        """Return what is wrong with the arguments of a call, its defaults filled in; see ``validate_arguments``.

        Raises:
            CheckerUnavailableError: nobody can say.
        """
        digest = _digest(tool, arguments)
        async with self._one_at_a_time:
            found = self._remembered(digest)
            if found is None:
                found = await self._ask(tool, arguments)
                self._verdicts[digest] = found
                if len(self._verdicts) > _KEPT:
                    self._verdicts.popitem(last=False)
            return found

    async def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            if process.returncode is None:
                process.kill()
            await process.wait()

    def _remembered(self, digest: bytes) -> tuple[Problem, ...] | None:
        found = self._verdicts.get(digest)
        if found is not None:
            self._verdicts.move_to_end(digest)
        return found

    async def _ask(self, tool: Tool, arguments: Mapping[str, Any]) -> tuple[Problem, ...]:
        process = await self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        request = json.dumps({"tool": tool.to_wire(), "arguments": dict(arguments)})
        try:
            async with asyncio.timeout(_MAX_WALL_SECONDS):
                process.stdin.write(request.encode() + b"\n")
                await process.stdin.drain()
                answer = json.loads(await process.stdout.readline())
        # It is gone, stands still, or says nothing that can be read.
        except (OSError, TimeoutError, ValueError):
            answer = None
        except BaseException:
            await self.close()  # its answer would be taken for the next one's
            raise
        if answer is not None:
            return tuple(Problem(**problem) for problem in answer)
        status = await self._end()
        if status > 0:  # by itself: it could not even begin
            raise CheckerUnavailableError(f"the process that checks arguments ended with status {status}")
        return (_too_much(tool),)

    async def _end(self) -> int:
        process, self._process = self._process, None
        assert process is not None
        with contextlib.suppress(TimeoutError):  # so that one that is dying says itself of what
            async with asyncio.timeout(_DYING_SECONDS):
                await process.wait()
        if process.returncode is None:
            process.kill()
        return await process.wait()

    async def _running(self) -> asyncio.subprocess.Process:
        if self._process is None or self._process.returncode is not None:
            try:
                self._process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", _PROCESS),
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    limit=_MAX_ANSWER_BYTES,
                )
            except OSError as error:
                raise CheckerUnavailableError(f"no process to check arguments in: {error}") from error
        return self._process


def _digest(tool: Tool, arguments: Mapping[str, Any]) -> bytes:
    text = json.dumps([tool.name, tool.spec.input_schema, dict(arguments)])
    return hashlib.sha256(text.encode()).digest()


def _too_much(tool: Tool) -> Problem:
    return Problem(
        "arguments",
        f"checking them against the input schema of {tool.name} took too much time or memory",
        remedy="pass large values as files; keep the schema's regular expressions and $refs simple",
    )
