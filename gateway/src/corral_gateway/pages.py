"""``/docs`` and ``/redoc``: from this server alone, so that they work where nothing outside can be reached."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from corral_gateway import methods
from corral_gateway.manifests import declare_manifests
from corral_gateway.openapi import declare_refusals, describe_paths, link_tasks

#: The two ways to send a credential; either is enough.
_SCHEMES = {
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "corral_…"},
    "bearer": {"type": "http", "scheme": "bearer", "description": "A key, or a token."},
}
_OPEN = frozenset({"/health", "/ready"})


def describe(app: FastAPI) -> None:
    """Have an application's OpenAPI say which routes need a credential, so that its pages can send one."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(
                title=app.title, version=app.version, description=app.description, routes=app.routes
            )
            schema.setdefault("components", {})["securitySchemes"] = _SCHEMES
            for path, operations in schema["paths"].items():
                for operation in operations.values() if path not in _OPEN else ():
                    operation["security"] = [{name: []} for name in _SCHEMES]
            declare_manifests(schema)
            declare_refusals(schema)
            describe_paths(schema)
            link_tasks(schema)
            app.openapi_schema = schema
        return app.openapi_schema

    methods.install(app)
    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI documents it
