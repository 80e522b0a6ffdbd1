"""Between gRPC and what serves it, the same for every method: who calls, how often, how it is refused and counted."""

import asyncio
import inspect
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, nullcontext
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

import grpc
from google.protobuf.message import DecodeError
from grpc import StatusCode, aio

from corral.api import ManifestError
from corral_gateway.audit.records import RequestInput
from corral_gateway.context import CURRENT, RequestContext
from corral_gateway.grpc.attendance import unbroken
from corral_gateway.grpc.refusals import status_of
from corral_gateway.identity.authentication import Credentials
from corral_gateway.identity.roles import Scope
from corral_gateway.problems import ProblemError, internal_problem, problem_of_manifest
from corral_gateway.services import Services
from corral_gateway.tracing import Tracing

log = logging.getLogger(__name__)

_CODES = {code.value[0]: code for code in StatusCode}
#: Streams at once of callers that nobody knows: who watches the health, who asks for descriptions.
_MOST_OPEN_STREAMS = 100


@dataclass(frozen=True, slots=True)
class Method:
    """A method, as it is declared."""

    path: str
    #: None: open to everybody.
    scope: Scope | None

    @property
    def name(self) -> str:
        """What metrics and logs call it: ``ExecuteTask``; of another's service ``Health/Check``."""
        service, method = self.path.strip("/").split("/")
        return method if service.startswith("corral.") else f"{service.rsplit('.', 1)[-1]}/{method}"


class Door(aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in the stubs alone
    """Around every method. Nothing of a request is parsed before it is known who sent it."""

    def __init__(
        self, services: Services, scopes: Mapping[str, Scope | None], tracing: Tracing | None
    ) -> None:
        """Make the door.

        Args:
            services: of the gateway.
            scopes: by the path of a method what a caller needs for it; None: nothing. A method that is not here is
                not served.
            tracing: where spans go, if anywhere.
        """
        self._services = services
        self._scopes = scopes
        self._tracing = tracing
        self._open_streams = 0
        self._ends = asyncio.Event()

    def end(self) -> None:
        """End the streams that would else never end, so that only tasks are waited for."""
        self._ends.set()

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any
    ) -> Any:
        """Return what serves a call; see ``grpc.aio.ServerInterceptor``."""
        handler = await continuation(handler_call_details)
        if handler is None or handler_call_details.method not in self._scopes:
            return None  # which gRPC answers with UNIMPLEMENTED
        path = handler_call_details.method
        method = Method(path, self._scopes[path])
        # Without a deserializer the bytes come as they are, and are parsed after the caller is known.
        keywords = {"response_serializer": handler.response_serializer}
        if handler.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler(self._unary(method, handler), **keywords)
        if handler.unary_stream is not None:
            return grpc.unary_stream_rpc_method_handler(self._stream(method, handler), **keywords)
        return grpc.stream_stream_rpc_method_handler(self._streams(method, handler), **keywords)

    def _unary(self, method: Method, handler: Any) -> Callable[[bytes, Any], Awaitable[Any]]:
        async def serve(data: bytes, rpc: Any) -> Any:
            async def work() -> Any:
                return await handler.unary_unary(_parsed(handler, data), rpc)

            return await self._serve(method, rpc, work)

        return serve

    def _stream(self, method: Method, handler: Any) -> Callable[[bytes, Any], Awaitable[Any]]:
        async def serve(data: bytes, rpc: Any) -> None:
            async def work() -> None:
                await _told(handler.unary_stream(_parsed(handler, data), rpc), rpc)

            await self._serve(method, rpc, self._ending(method, work))

        return serve

    def _streams(self, method: Method, handler: Any) -> Callable[[AsyncIterator[bytes], Any], Awaitable[Any]]:
        async def serve(requests: AsyncIterator[bytes], rpc: Any) -> None:
            async def parsed() -> AsyncIterator[Any]:
                async for data in requests:
                    yield _parsed(handler, data)

            async def work() -> None:
                await _told(handler.stream_stream(parsed(), rpc), rpc)

            await self._serve(method, rpc, self._ending(method, work))

        return serve

    def _ending(self, method: Method, work: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        """Return the work of an open stream so that there are not too many, and none keeps the gateway from ending."""
        if method.scope is not None:
            return work

        async def ending() -> None:
            if self._open_streams >= _MOST_OPEN_STREAMS:
                raise _too_many_streams()
            self._open_streams += 1
            loop = asyncio.get_running_loop()
            working, ends = loop.create_task(_run(work)), loop.create_task(self._ends.wait())
            try:
                await asyncio.wait([working, ends], return_when=asyncio.FIRST_COMPLETED)
                if not working.done():
                    raise _ends()
                await working
            finally:
                self._open_streams -= 1
                working.cancel()
                ends.cancel()

        return ending

    async def _serve(self, method: Method, rpc: Any, work: Callable[[], Awaitable[Any]]) -> Any:
        metadata = _first_values(rpc.invocation_metadata())
        context = RequestContext(
            "grpc",
            method.name,
            _host(rpc.peer()),
            metadata.get("user-agent", "")[:256],
            route=method.path,
            target=method.path,
        )
        CURRENT.set(context)  # each call has an asyncio task of its own, and so a context of its own
        tracing = self._tracing
        began, code = time.perf_counter(), StatusCode.CANCELLED
        with (
            nullcontext() if tracing is None else tracing.request(context, metadata.get("traceparent"))
        ) as span:
            try:
                rpc.set_trailing_metadata(_trailing(context))
                answer = await self._answered(method, context, metadata, rpc, work)
            except ProblemError as error:
                context.reason = error.reason
                status = status_of(error, context.id)
                code = _CODES[status.code]
                details = ("grpc-status-details-bin", status.SerializeToString())
                await rpc.abort(code, status.message, (*_trailing(context), details))
            except aio.AbortError:  # of a service that is not ours
                code = rpc.code()
                raise
            except asyncio.CancelledError:
                code = StatusCode.DEADLINE_EXCEEDED if _past_deadline(rpc) else StatusCode.CANCELLED
                raise
            else:
                code = StatusCode.OK
                return answer
            finally:
                self._services.entrance.left(context)
                self._note(method, context, code, time.perf_counter() - began)
                if tracing is not None and span is not None:
                    tracing.answered_call(span, context, code.name)

    async def _answered(
        self,
        method: Method,
        context: RequestContext,
        metadata: Mapping[str, str],
        rpc: Any,
        work: Callable[[], Awaitable[Any]],
    ) -> Any:
        """Let a call in and serve it; every error becomes a refusal."""
        try:
            if method.scope is not None:
                credentials = Credentials(metadata.get("x-api-key"), metadata.get("authorization"))
                await unbroken(self._services.entrance.enter(context, credentials, method.scope))
                rpc.set_trailing_metadata(_trailing(context))
            return await work()
        except (ProblemError, aio.AbortError):
            raise
        except ManifestError as error:
            raise problem_of_manifest(error) from None
        except Exception as error:  # whatever it was, the caller gets an answer and the log the reason
            if rpc.done():  # nobody listens any more, which is what the error says
                raise asyncio.CancelledError from None
            log.exception("the call failed", extra={"method": method.name})
            raise internal_problem() from error

    def _note(self, method: Method, context: RequestContext, code: StatusCode, seconds: float) -> None:
        metrics = self._services.metrics
        metrics.grpc_requests.labels(method.name, code.name).inc()
        metrics.grpc_seconds.labels(method.name).observe(seconds)
        told = {
            "method": context.method,
            "route": context.route,
            "status": code.name,
            "seconds": round(seconds, 6),
            "source": context.source,
        }
        log.info("request", extra=told if context.reason is None else {**told, "reason": context.reason})
        if context.reason is not None:
            metrics.drops.labels(context.reason).inc()
        elif code is StatusCode.OK:
            metrics.allowed.labels("success").inc()
        self._services.audit.auditing.request_ended(
            context, code.name, seconds, succeeded=code is StatusCode.OK
        )


async def _told(telling: Any, rpc: Any) -> None:
    """Send what a method tells, whichever of the two ways it does that in."""
    if not inspect.isasyncgen(telling):
        await telling  # it writes by itself
        return
    async with aclosing(telling) as messages:
        async for message in messages:
            await rpc.write(message)


async def _run(work: Callable[[], Awaitable[None]]) -> None:
    await work()


def _parsed(handler: Any, data: bytes) -> Any:
    context = CURRENT.get()
    assert context is not None  # the caller was let in before
    context.input = RequestInput.of(data)
    try:
        return handler.request_deserializer(data)
    except DecodeError as error:
        raise ProblemError(
            HTTPStatus.BAD_REQUEST, "MalformedBody", f"the message cannot be read: {error}"
        ) from None


def _first_values(metadata: Any) -> dict[str, str]:
    """Return the metadata that is text, by name; of several values the first, as HTTP has it."""
    values: dict[str, str] = {}
    for name, value in metadata or ():
        if isinstance(value, str):
            values.setdefault(name, value)
    return values


def _trailing(context: RequestContext) -> tuple[tuple[str, str], ...]:
    standing = {} if context.standing is None else context.standing.headers
    return (("x-request-id", context.id), *((name.lower(), value) for name, value in standing.items()))


def _host(peer: str) -> str:
    """Return the address of a peer such as ``ipv4:127.0.0.1:50312`` or ``ipv6:%5B::1%5D:50312``."""
    kind, _, address = peer.partition(":")
    return unquote(address).rpartition(":")[0].strip("[]") if kind in {"ipv4", "ipv6"} else ""


def _past_deadline(rpc: Any) -> bool:
    left = rpc.time_remaining()
    return left is not None and left <= 0


def _too_many_streams() -> ProblemError:
    return ProblemError(
        HTTPStatus.TOO_MANY_REQUESTS,
        "TooManyStreams",
        f"{_MOST_OPEN_STREAMS} streams without a credential are open, which is all there may be",
        retry_after_seconds=5,
    )


def _ends() -> ProblemError:
    return ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, "Ending", "the gateway ends")
