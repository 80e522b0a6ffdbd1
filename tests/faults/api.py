"""Straight to the API server, past the proxy: what the harness and its recorder use."""

import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp

Json = dict[str, Any]

#: Where the pod's account is mounted: not where in-cluster clients look, so that operators take their kubeconfig.
ACCOUNT = Path("/account")
_SERVER = "https://kubernetes.default.svc"


class ApiError(Exception):
    """The API server refused."""

    def __init__(self, status: int, body: Json) -> None:
        super().__init__(f"{status}: {body.get('message', body)}")
        self.status = status


class Api:
    """The few requests that a harness makes, on raw JSON."""

    def __init__(self) -> None:
        context = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
        token = (ACCOUNT / "token").read_text(encoding="ascii")
        self.session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {token}"},
            connector=aiohttp.TCPConnector(ssl=context, limit=0),
            timeout=aiohttp.ClientTimeout(total=60),
            auto_decompress=True,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.session.close()

    @staticmethod
    def url(path: str) -> Any:
        """Return the address of a path that is encoded already."""
        from yarl import URL

        return URL(_SERVER + path, encoded=True)

    async def ask(self, method: str, path: str, body: Json | None = None) -> Json:
        """Make a request.

        Raises:
            ApiError: it was refused.
        """
        headers = {
            "Content-Type": "application/merge-patch+json" if method == "PATCH" else "application/json"
        }
        data = None if body is None else json.dumps(body)
        async with self.session.request(method, self.url(path), data=data, headers=headers) as response:
            answer = json.loads(await response.read())
            if response.status >= 400:
                raise ApiError(response.status, answer)
            found: Json = answer
            return found

    async def watch(self, path: str, version: str) -> AsyncIterator[Json]:
        """Yield events from a version on, until the API server ends the stream."""
        url = self.url(f"{path}?watch=true&resourceVersion={version}&allowWatchBookmarks=true")
        async with self.session.get(url, timeout=aiohttp.ClientTimeout(total=None)) as response:
            rest = b""
            async for chunk in response.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    yield json.loads(line)
