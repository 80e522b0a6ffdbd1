"""Waiting for what takes its time, in the one way that tests do it."""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")

#: Long for a machine on which everything takes ten times as long; whoever waits is woken much earlier.
PATIENCE_SECONDS = 60.0
_PAUSE_SECONDS = 0.01


def eventually(
    look: Callable[[], _T], is_so: Callable[[_T], bool] = bool, *, seconds: float = PATIENCE_SECONDS
) -> _T:
    """Return what ``look`` gives as soon as it is so.

    Args:
        look: gives the state; called again and again.
        is_so: whether the state is the one waited for; by default, whether it is true.
        seconds: after so long it will not be.

    Raises:
        AssertionError: it never was; the message shows the last state.
    """
    deadline = time.monotonic() + seconds
    while True:
        state = look()
        if is_so(state):
            return state
        if time.monotonic() > deadline:
            raise AssertionError(f"not so after {seconds:g} s; the last state was {state!r}")
        time.sleep(_PAUSE_SECONDS)


async def eventually_async(
    look: Callable[[], _T], is_so: Callable[[_T], bool] = bool, *, seconds: float = PATIENCE_SECONDS
) -> _T:
    """Do the same as ``eventually`` where an event loop must go on meanwhile."""
    deadline = time.monotonic() + seconds
    while True:
        state = look()
        if is_so(state):
            return state
        if time.monotonic() > deadline:
            raise AssertionError(f"not so after {seconds:g} s; the last state was {state!r}")
        await asyncio.sleep(_PAUSE_SECONDS)
