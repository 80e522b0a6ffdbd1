"""What HTTP routes share: the context of their request, and the dependency that lets a caller in."""

from collections.abc import Awaitable, Callable
from typing import cast

from fastapi import Request

from corral_gateway.context import RequestContext
from corral_gateway.identity.authentication import Credentials
from corral_gateway.identity.caller import Caller
from corral_gateway.identity.roles import Scope
from corral_gateway.services import services_of


def context_of(request: Request) -> RequestContext:
    """Return what is known of a request."""
    return cast("RequestContext", request.scope["state"]["context"])


def allowed(scope: Scope | None) -> Callable[[Request], Awaitable[Caller]]:
    """Return the dependency of a route that needs a scope; None: it is open to every caller who is known."""

    async def caller(request: Request) -> Caller:
        context = context_of(request)
        context.route = getattr(request.scope.get("route"), "path", "")
        headers = request.headers
        credentials = Credentials(headers.get("x-api-key"), headers.get("authorization"))
        return await services_of(request).entrance.enter(context, credentials, scope)

    return caller
