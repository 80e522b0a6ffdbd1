"""The answer to a method that a path has not: with all that it has."""

from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.routing import Match

from corral_gateway.problems import ProblemError, problem_response

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


def install(app: FastAPI) -> None:
    """Have 405 name every method in ``Allow``. Starlette names those of the first of several routes at one path."""

    @app.exception_handler(HTTPStatus.METHOD_NOT_ALLOWED)
    async def not_allowed(request: Request, _error: Exception) -> JSONResponse:
        routes = request.app.router.routes
        allowed = [
            method
            for method in _METHODS
            if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in routes)
        ]
        problem = ProblemError(
            HTTPStatus.METHOD_NOT_ALLOWED,
            "MethodNotAllowed",
            f"this path takes {', '.join(allowed) or 'nothing'}",
            headers={"Allow": ", ".join(allowed)},
        )
        return problem_response(request, problem)
