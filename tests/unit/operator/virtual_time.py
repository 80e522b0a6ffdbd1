"""An event loop whose clock goes on only when nothing is left to do: hours pass in milliseconds, and exactly."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")


class _Selector(selectors.DefaultSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0)
        if not events:
            assert timeout is not None, "everybody waits, and nobody for a time"
            self.now += max(0.0, timeout)
        return events


class VirtualLoop(asyncio.SelectorEventLoop):
    """Its ``time`` is nobody else's."""

    def __init__(self) -> None:
        self.clock = _Selector()
        super().__init__(self.clock)
        self._clock_resolution = 1e-9

    def time(self) -> float:
        return self.clock.now

    def jump(self, seconds: float) -> None:
        """The whole process stood still for so long."""
        self.clock.now += seconds


def run(main: Coroutine[Any, Any, _T]) -> _T:
    """Run to the end in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


def loop() -> VirtualLoop:
    """Return the running one."""
    running = asyncio.get_running_loop()
    assert isinstance(running, VirtualLoop)
    return running
