"""What the rest of the gateway tells the audit."""

from corral.api import AgentTask, Tool
from corral_gateway.audit.recorder import Recorder
from corral_gateway.audit.records import (
    Decision,
    ExecutionEnded,
    Kind,
    RequestBegun,
    RequestEnded,
    RequestFacts,
)
from corral_gateway.context import CURRENT, RequestContext
from corral_gateway.identity.caller import Caller
from corral_gateway.identity.roles import Scope

#: Methods of HTTP that only look.
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class Auditing:
    """The one place where things become records. Also a ``TaskObserver``."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    async def request_begun(self, context: RequestContext, scope: Scope | None) -> None:
        """Note a request that was let in: when this returns, the attempt is on record if it may change anything.

        Raises:
            ProblemError: it cannot be recorded, so it must not go on.
        """
        looks = scope is None or scope.endswith(":read")
        reads = looks and (context.transport == "grpc" or context.method in _SAFE)
        if reads:
            self._recorder.admit()
        else:
            await self._recorder.write(RequestBegun(RequestFacts.of(context)))
        context.entered = True

    def request_ended(self, context: RequestContext, code: str, seconds: float, *, succeeded: bool) -> None:
        """Note how a request was answered.

        Args:
            context: with its route, and with the reason if it was refused.
            code: an HTTP status, or the name of a gRPC one.
            seconds: from its first byte to its answer's.
            succeeded: it went well. One that went well without a caller, as ``/health``, is not recorded.
        """
        if context.entered:
            self._recorder.note(
                RequestEnded(
                    RequestFacts.of(context),
                    code,
                    succeeded,
                    context.reason,
                    seconds,
                    context.input,
                    tool_reason=context.tool_reason,
                )
            )
        elif not succeeded:
            facts = RequestFacts.of(context)
            refused = RequestEnded(facts, code, False, context.reason, seconds, kind=Kind.REQUEST_REFUSED)
            self._recorder.note_refused(refused)

    def decided(
        self, task: AgentTask, caller: Caller, *, allowed: bool, by: str = "", reason: str | None = None
    ) -> None:
        """Note whether a task may be.

        Args:
            task: whole, with its id.
            caller: who wants it.
            allowed: it may.
            by: the guard that decided it; empty: all let it through.
            reason: why not; or, of one that may, what is peculiar about it.
        """
        context = CURRENT.get()
        request_id = "" if context is None else context.id
        self._recorder.note(Decision(request_id, caller.name, task, allowed, by, reason))

    def reused(self, call: AgentTask, _tool: Tool, caller: str, task_uid: str, _age_seconds: float) -> None:
        """See ``ReuseObserver``: note a call that was answered with a result from before."""
        context = CURRENT.get()
        request_id = "" if context is None else context.id
        self._recorder.note(Decision(request_id, caller, call, True, "", "Reused", task_uid))

    def ended(self, task: AgentTask, caller: str, _seconds: float) -> None:
        """See ``TaskObserver``: note every execution of a task that has ended; one without any, by itself."""
        for execution in task.executions or (None,):
            self._recorder.note(ExecutionEnded(task, execution, caller))

    def ended_before(self, task: AgentTask, caller: str) -> None:
        """See ``LastingObserver``: the log leaves out what it has already."""
        self.ended(task, caller, 0.0)
