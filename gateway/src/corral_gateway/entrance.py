"""Lets a request in: who calls, whether they may, how often. The same for HTTP and gRPC."""

from http import HTTPStatus

from corral_gateway.audit.auditing import Auditing
from corral_gateway.context import RequestContext
from corral_gateway.identity.authentication import Authentication, Credentials
from corral_gateway.identity.caller import Caller
from corral_gateway.identity.roles import Scope
from corral_gateway.problems import ProblemError
from corral_gateway.rate_limits import RateLimits
from corral_gateway.rates.open_requests import OpenRequests

#: When one of their own requests ends, nobody can say.
_OPEN_RETRY_SECONDS = 5


class Entrance:
    """Every request passes here, before its body is read."""

    def __init__(
        self, authentication: Authentication, limits: RateLimits, audit: Auditing, open_requests: OpenRequests
    ) -> None:
        self._authentication = authentication
        self._open = open_requests
        self._limits = limits
        self._audit = audit

    async def enter(self, context: RequestContext, credentials: Credentials, scope: Scope | None) -> Caller:
        """Return who calls.

        Args:
            context: the request, which learns who calls.
            credentials: what was sent with it.
            scope: what it needs; None: no more than to be somebody who is known.

        Raises:
            ProblemError: nobody who is known, or who may do this, or they ask too often, or it cannot be recorded.
        """
        caller = context.caller = await self._authentication.caller(credentials, context.source)
        if scope is not None and scope not in caller.scopes:
            raise ProblemError(
                HTTPStatus.FORBIDDEN,
                "Forbidden",
                f"{caller.name} may not do this: it needs the scope {scope}",
                remedy="ask an admin for a role that has it; GET /v1/whoami says what this credential may do",
            )
        context.standing = await self._limits.request(caller.name, route_of(context))
        if not self._open.enter(context, caller.name):
            raise ProblemError(
                HTTPStatus.TOO_MANY_REQUESTS,
                "TooManyOpenRequests",
                "as many of your requests wait or follow something as may at once",
                remedy="let some of them end; one of the list of your tasks tells of many",
                retry_after_seconds=_OPEN_RETRY_SECONDS,
            )
        await self._audit.request_begun(context, scope)
        return caller

    def left(self, context: RequestContext) -> None:
        """Note that a request is over. To be called once for each, however it went."""
        self._open.leave(context)


def route_of(context: RequestContext) -> str:
    """Return what limits know a request by: method and declared path; of gRPC the method's own name."""
    if context.transport == "grpc":
        return context.method.rpartition("/")[2]
    return f"{context.method} {context.route}"
