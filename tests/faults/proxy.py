"""An HTTP proxy between operators and the real API server that makes faults on command and keeps a journal.

It speaks plain HTTP on 127.0.0.1, one port per operator, and TLS with a service account's token to the API server.
Watches are passed on event by event.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, Protocol

import aiohttp
from aiohttp import web

from faults.api import Api
from faults.faultplan import FaultPlan, Rule
from faults.journal import Journal, Request, Stage, Write

_HOP_BY_HOP = frozenset(
    {"host", "authorization", "connection", "transfer-encoding", "content-length", "accept-encoding"}
)
_ANSWERS = {
    409: ("Conflict", "the object has been modified; please apply your changes to the latest version"),
    410: ("Expired", "too old resource version"),
    429: ("TooManyRequests", "too many requests, please try again later"),
    500: ("InternalError", "an error on the server has prevented the request from succeeding"),
    503: ("ServiceUnavailable", "the server is currently unable to handle the request"),
}


class Killer(Protocol):
    """Who decides that a write is an operator's last."""

    def last(self, write: Write) -> Stage | None:
        """Return at which stage of this write its operator dies, None if it lives on."""

    def kill(self, client: str) -> None:
        """Kill an operator now."""


class Cut(Exception):  # noqa: N818 - what is done
    """The connection to the operator is to break here."""


class Proxy:
    """One proxy for all operators."""

    def __init__(self, api: Api, killer: Killer) -> None:
        self._api = api
        self._killer = killer
        self.journal = Journal()
        self.plan = FaultPlan()
        self.changed = asyncio.Event()
        self._clients: dict[int, str] = {}
        self._away_until = 0.0
        self._streams: set[asyncio.Task[Any]] = set()
        self._runner: web.ServerRunner | None = None

    async def port_for(self, client: str) -> int:
        """Open a port for an operator."""
        for port, name in self._clients.items():
            if name == client:
                return port
        if self._runner is None:
            self._runner = web.ServerRunner(web.Server(self._handle, access_log=None))
            await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = int(site._server.sockets[-1].getsockname()[1])  # type: ignore[union-attr]
        self._clients[port] = client
        return port

    def go_away(self, seconds: float) -> None:
        """Answer nothing for so long, and break what is open: the API server is away."""
        self._away_until = asyncio.get_running_loop().time() + seconds
        self.plan.count("outage")
        for task in list(self._streams):
            task.cancel()

    def replace_plan(self, plan: FaultPlan) -> None:
        """Make other faults from now on."""
        self.plan = plan
        self.changed.set()
        self.changed = asyncio.Event()

    # --- one request ---

    async def _handle(self, incoming: web.BaseRequest) -> web.StreamResponse:
        assert incoming.transport is not None
        client = self._clients[incoming.transport.get_extra_info("sockname")[1]]
        request = Request.parse(incoming.method, incoming.path, incoming.query_string)
        task = asyncio.current_task()
        assert task is not None
        self._streams.add(task)
        try:
            self._check_it_is_there()
            if request.verb == "watch":
                return await self._watch(incoming, client, request)
            return await self._pass_on(incoming, client, request)
        except (Cut, aiohttp.ClientError, ConnectionError, asyncio.CancelledError):
            if incoming.transport is not None:
                incoming.transport.abort()
            raise asyncio.CancelledError from None
        finally:
            self._streams.discard(task)

    def _check_it_is_there(self) -> None:
        if asyncio.get_running_loop().time() < self._away_until:
            raise Cut

    async def _pass_on(self, incoming: web.BaseRequest, client: str, request: Request) -> web.StreamResponse:
        body = await incoming.read()
        write = None
        if request.is_write:
            if request.verb == "create":
                name = str(json.loads(body)["metadata"].get("name", ""))
                request = Request("create", request.resource, request.namespace, name, request.subresource)
            write = self.journal.begin(client, request)
        last = None if write is None else self._killer.last(write)
        if last == "unwritten":
            self._kill(client, write)
        struck = self.plan.strike(client, request)
        for rule in struck:
            if rule.kind == "delay":
                await asyncio.sleep(rule.seconds)
        early = next((rule for rule in struck if rule.kind != "delay" and rule.stage == "unwritten"), None)
        if early is not None:
            return self._fault(early, write)
        status, headers, content = await self._ask(incoming, body)
        if write is not None:
            write.status = status
        if last == "unanswered":
            self._kill(client, write)
        late = next((rule for rule in struck if rule.kind != "delay" and rule.stage != "unwritten"), None)
        if late is not None:
            return self._fault(late, write)
        response = web.Response(status=status, body=content, headers=headers)
        await response.prepare(incoming)
        await response.write_eof()
        if write is not None:
            write.answered = True
        if last == "answered":
            self._kill(client, write)
        return response

    def _kill(self, client: str, write: Write | None) -> None:
        assert write is not None
        write.fault = "killed"
        self._killer.kill(client)
        raise Cut

    @staticmethod
    def _fault(rule: Rule, write: Write | None) -> web.Response:
        if write is not None:
            write.fault = rule.kind
        if rule.kind == "cut":
            raise Cut
        return answer_of(rule.status, rule.seconds)

    async def _ask(self, incoming: web.BaseRequest, body: bytes) -> tuple[int, dict[str, str], bytes]:
        headers = {name: text for name, text in incoming.headers.items() if name.lower() not in _HOP_BY_HOP}
        async with self._api.session.request(
            incoming.method, self._api.url(incoming.raw_path), data=body or None, headers=headers
        ) as response:
            content = await response.read()
            kept = {
                name: text
                for name, text in response.headers.items()
                if name.lower() in {"content-type", "retry-after", "warning"}
            }
            return response.status, kept, content

    # --- watches ---

    async def _watch(self, incoming: web.BaseRequest, client: str, request: Request) -> web.StreamResponse:
        struck = self.plan.strike(client, request)
        for rule in struck:
            if rule.kind == "delay":
                await asyncio.sleep(rule.seconds)
            else:
                return self._fault(rule, None)
        async with self._api.session.get(
            self._api.url(incoming.raw_path), timeout=aiohttp.ClientTimeout(total=None)
        ) as upstream:
            response = web.StreamResponse(status=upstream.status)
            response.content_type = upstream.content_type
            response.enable_chunked_encoding()
            await response.prepare(incoming)
            async for event in self._events(lines_of(upstream)):
                await response.write(event)
            await response.write_eof()
            return response

    async def _events(self, lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Yield a watch's events as the faults leave them."""
        async for line in self._in_order(self._late(lines)):
            yield line
            if self.plan.happens(self.plan.watches.gone, "410 event"):
                yield json.dumps({"type": "ERROR", "object": status_of(410)}).encode() + b"\n"
                return
            if self.plan.happens(self.plan.watches.cut, "cut watch"):
                raise Cut

    async def _late(self, lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Yield what is not dropped, when a lag or a freeze is over; all of it is read as it comes."""
        arrivals: asyncio.Queue[tuple[float, bytes | None]] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        async def arrive() -> None:
            try:
                async for line in lines:
                    arrivals.put_nowait((loop.time(), line))
            finally:
                arrivals.put_nowait((loop.time(), None))

        arriving = loop.create_task(arrive())
        try:
            while True:
                came, line = await arrivals.get()
                while self.plan.watches.frozen:
                    self.plan.count("frozen event")
                    await self.changed.wait()
                lag = came + self.plan.watches.lag_seconds - loop.time()
                if lag > 0:
                    self.plan.count("lagging event")
                    await asyncio.sleep(lag)
                if line is None:
                    return
                if not self.plan.happens(self.plan.watches.drop, "dropped event"):
                    yield line
        finally:
            arriving.cancel()

    async def _in_order(self, lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Yield events, some of them after the next event of another object."""
        held: bytes | None = None
        async for line in lines:
            if held is None and self.plan.happens(self.plan.watches.reorder, "reordered event"):
                held = line
                continue
            if held is not None and uid_of(held) == uid_of(line):
                yield held
                held = None
            yield line
            if held is not None:
                yield held
                held = None


async def lines_of(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Yield whole lines, however long they are, with their ends."""
    rest = b""
    async for chunk in response.content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line + b"\n"


def uid_of(line: bytes) -> str:
    """Return which object an event is about."""
    return str(json.loads(line).get("object", {}).get("metadata", {}).get("uid", ""))


def status_of(code: int) -> dict[str, Any]:
    """Return the Status object that an API server would answer with."""
    reason, message = _ANSWERS.get(code, ("Unknown", "a fault"))
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }


def answer_of(code: int, retry_after_seconds: float) -> web.Response:
    """Return an API server's refusal."""
    headers = {"Retry-After": str(int(retry_after_seconds))} if retry_after_seconds else {}
    return web.json_response(status_of(code), status=code, headers=headers)
