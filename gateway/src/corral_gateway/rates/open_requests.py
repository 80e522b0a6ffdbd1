"""How many requests of one caller are open at once: who follows thousands of tasks must leave room for the others."""

from corral_gateway.context import RequestContext


class OpenRequests:
    """Counts, by caller, what was let in and is not answered yet. Callers without any are forgotten."""

    def __init__(self, most: int) -> None:
        """Let every caller have so many at most."""
        self._most = most
        self._open: dict[str, int] = {}

    def __len__(self) -> int:
        """How many callers have requests that are open."""
        return len(self._open)

    def enter(self, context: RequestContext, caller: str) -> bool:
        """Count a request. Returns whether it may be: False where the caller has as many as may be."""
        count = self._open.get(caller, 0)
        if count >= self._most:
            return False
        if not context.is_over:  # over gRPC who called may have gone while it was found out who that is
            self._open[caller] = count + 1
            context.counted_for = caller
        return True

    def leave(self, context: RequestContext) -> None:
        """Note that a request is over, whether or not it was counted."""
        context.is_over = True
        caller, context.counted_for = context.counted_for, None
        if caller is None:
            return
        left = self._open[caller] - 1
        if left:
            self._open[caller] = left
        else:
            del self._open[caller]
