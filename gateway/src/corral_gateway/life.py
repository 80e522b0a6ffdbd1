"""How far a gateway is in its life, for all who must know: who takes work in, who waits, who asks if it is ready."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from enum import Enum
from http import HTTPStatus
from typing import TypeVar

from corral.api import AgentTask, Tool
from corral_gateway.context import CURRENT
from corral_gateway.identity.caller import Caller
from corral_gateway.problems import ProblemError

_T = TypeVar("_T")

#: Another gateway takes it at once; this one, started anew, in about so long.
_RETRY_SECONDS = 5


class Stage(Enum):
    """In this order."""

    STARTING = "starting"
    SERVING = "serving"
    #: It was told to end and takes everything in still, until those who send requests have noticed.
    DRAINING = "draining"
    #: It takes in nothing new.
    ENDING = "ending"


class Life:
    """Of one gateway. A ``Guard`` of what it takes in."""

    def __init__(self) -> None:
        self.stage = Stage.STARTING

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Serve within this, which ends whether or not a signal has told so."""
        self.stage = Stage.SERVING
        try:
            yield
        finally:
            self.stage = Stage.ENDING

    async def admit(self, task: AgentTask, tools: Sequence[Tool], caller: Caller) -> None:  # noqa: ARG002 - see ``Guard``
        """Take in nothing that would begin when everything ends; see ``Guard``."""
        if self.stage is Stage.ENDING:
            raise ProblemError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "Ending",
                "the gateway ends, and takes nothing new in",
                remedy="send it again, after the time that Retry-After names or to another gateway",
                retry_after_seconds=_RETRY_SECONDS,
            )

    def withdrawn(self, task: AgentTask, caller: Caller) -> None:
        """Forget nothing: nothing was counted; see ``Guard``."""


class Waiters:
    """Requests that wait for what may come long after the gateway's end: they are let go before it."""

    def __init__(self) -> None:
        self._scopes: set[asyncio.Timeout] = set()
        self._count = 0
        self._nobody = asyncio.Event()
        self._nobody.set()
        self._over = False

    async def nobody(self) -> None:
        """Return when nobody waits any more."""
        await self._nobody.wait()

    def let_go(self) -> None:
        """Let everybody go on who waits, and keep nobody waiting from now on."""
        self._over = True
        for scope in self._scopes:
            scope.reschedule(asyncio.get_running_loop().time())

    @asynccontextmanager
    async def waiting(self) -> AsyncIterator[None]:
        """Let whoever waits within this go when the gateway's time is over.

        Raises:
            TimeoutError: it is.
        """
        async with asyncio.timeout(0 if self._over else None) as scope:
            self._scopes.add(scope)
            try:
                with self._counted():
                    yield
            finally:
                self._scopes.discard(scope)

    async def following(self, items: AsyncGenerator[_T]) -> AsyncGenerator[_T]:
        """Yield what comes, to its end or until the gateway's time is over."""
        async with aclosing(items):
            with self._counted():
                while True:
                    try:
                        async with self.waiting():
                            item = await anext(items)
                    except (TimeoutError, StopAsyncIteration):
                        return
                    yield item

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self._count += 1
        self._nobody.clear()
        context = CURRENT.get()
        if context is not None:
            context.waiting += 1
        try:
            yield
        finally:
            if context is not None:
                context.waiting -= 1
            self._count -= 1
            if not self._count:
                self._nobody.set()


class Readiness:
    """Whether requests should be sent here."""

    def __init__(
        self, life: Life, unwritable: Callable[[], str | None], is_current: Callable[[], bool] | None
    ) -> None:
        """Know whom to ask.

        Args:
            life: how far the gateway is.
            unwritable: why the database takes nothing new; None: it does.
            is_current: whether the cluster tells what happens in it; None: there is none.
        """
        self._life = life
        self._unwritable = unwritable
        self._is_current = is_current

    @property
    def why_not(self) -> str | None:
        """Why they are better sent elsewhere; None: they are welcome."""
        if self._life.stage is not Stage.SERVING:
            return f"the gateway is {self._life.stage.value}"
        unwritable = self._unwritable()
        if unwritable is not None:
            return f"the audit cannot be written: {unwritable}"
        if self._is_current is not None and not self._is_current():
            return "the cluster does not tell what happens in it"
        return None
