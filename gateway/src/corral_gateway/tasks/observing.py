"""Tells all who want to know of the ends of tasks."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from corral.api import AgentTask
from corral_gateway.tasks.port import LastingObserver, TaskObserver

log = logging.getLogger(__name__)


class Observers:
    """Several as one. None of them should fail; one that does takes nothing from the others, nor from the task."""

    def __init__(self, observers: Sequence[TaskObserver]) -> None:
        self._all = tuple(observers)
        self._lasting = tuple(one for one in self._all if isinstance(one, LastingObserver))

    def ended(self, task: AgentTask, caller: str, seconds: float) -> None:
        """See ``TaskObserver``."""
        for observer in self._all:
            with _alone(observer, task):
                observer.ended(task, caller, seconds)

    def ended_before(self, task: AgentTask, caller: str) -> None:
        """See ``LastingObserver``; others are not told."""
        for observer in self._lasting:
            with _alone(observer, task):
                observer.ended_before(task, caller)


@contextmanager
def _alone(observer: TaskObserver, task: AgentTask) -> Iterator[None]:
    try:
        yield
    # Whatever it was: who waits for the task, and the watch of a cluster, must go on.
    except Exception:
        log.exception("%s could not take in the end of task %s", type(observer).__name__, task.metadata.uid)
