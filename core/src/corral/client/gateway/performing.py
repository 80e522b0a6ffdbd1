"""Performs the effects of conversations with httpx: the two transports, which decide nothing."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from typing import Any, TypeVar

import httpx

from corral.client.gateway.conversation import (
    Answer,
    Conversation,
    CutError,
    Effect,
    Emit,
    Open,
    Pause,
    Read,
    Request,
    Send,
    Talk,
)

_T = TypeVar("_T")
#: Raised before anything was sent.
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)


class Performer:
    """Performs one conversation after the other, on one client."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    def run(self, talk: Talk[_T]) -> _T:
        """Perform a conversation that emits nothing; return what it is about."""
        line, conversation = _Line(self._http), Conversation(talk)
        try:
            effect = conversation.go_on()
            while effect is not None:
                try:
                    outcome = line.perform(effect)
                except BaseException as error:  # noqa: BLE001 - an interruption too is the conversation's to hear
                    effect = conversation.fail(error)
                else:
                    effect = conversation.go_on(outcome)
            return conversation.result
        finally:
            line.close()

    def iterate(self, talk: Talk[None]) -> Generator[Any, None, None]:
        """Perform a conversation, and yield what it emits."""
        line, conversation = _Line(self._http), Conversation(talk)
        try:
            effect = conversation.go_on()
            while effect is not None:
                if isinstance(effect, Emit):
                    yield effect.value
                    effect = conversation.go_on()
                    continue
                try:
                    outcome = line.perform(effect)
                except BaseException as error:  # noqa: BLE001 - as above
                    effect = conversation.fail(error)
                else:
                    effect = conversation.go_on(outcome)
        finally:
            conversation.close()
            line.close()


class _Line:
    """The requests of one conversation, and the stream that it has open."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http
        self._stream: httpx.Response | None = None
        self._chunks: Iterator[bytes] = iter(())

    def perform(self, effect: Effect) -> Any:
        match effect:
            case Send():
                with _cuts():
                    return _answer(
                        self._http.send(_request(self._http, effect.request, effect.silence_seconds))
                    )
            case Open():
                return self._open(effect)
            case Read():
                with _cuts():
                    return next(self._chunks, b"")
            case Pause():
                time.sleep(effect.seconds)
        return None

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _open(self, effect: Open) -> Answer:
        self.close()
        with _cuts():
            request = _request(self._http, effect.request, effect.silence_seconds)
            self._stream = self._http.send(request, stream=True)
            if self._stream.status_code >= 400:
                self._stream.read()
                return _answer(self._stream)
        self._chunks = self._stream.iter_bytes()
        return _answer(self._stream, b"")


class AsyncPerformer:
    """Performs conversations on an event loop, any number at once."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def run(self, talk: Talk[_T]) -> _T:
        """Perform a conversation that emits nothing; return what it is about."""
        line, conversation = _AsyncLine(self._http), Conversation(talk)
        try:
            effect = conversation.go_on()
            while effect is not None:
                try:
                    outcome = await line.perform(effect)
                except BaseException as error:  # noqa: BLE001 - cancellation too is the conversation's to hear
                    effect = conversation.fail(error)
                else:
                    effect = conversation.go_on(outcome)
            return conversation.result
        finally:
            await line.close()

    async def iterate(self, talk: Talk[None]) -> AsyncGenerator[Any, None]:
        """Perform a conversation, and yield what it emits."""
        line, conversation = _AsyncLine(self._http), Conversation(talk)
        try:
            effect = conversation.go_on()
            while effect is not None:
                if isinstance(effect, Emit):
                    yield effect.value
                    effect = conversation.go_on()
                    continue
                try:
                    outcome = await line.perform(effect)
                except BaseException as error:  # noqa: BLE001 - as above
                    effect = conversation.fail(error)
                else:
                    effect = conversation.go_on(outcome)
        finally:
            conversation.close()
            await line.close()


class _AsyncLine:
    """The same as ``_Line`` for an event loop."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self._stream: httpx.Response | None = None
        self._chunks: AsyncIterator[bytes] | None = None

    async def perform(self, effect: Effect) -> Any:
        match effect:
            case Send():
                with _cuts():
                    request = _request(self._http, effect.request, effect.silence_seconds)
                    return _answer(await self._http.send(request))
            case Open():
                return await self._open(effect)
            case Read():
                assert self._chunks is not None
                with _cuts():
                    return await anext(self._chunks, b"")
            case Pause():
                await asyncio.sleep(effect.seconds)
        return None

    async def close(self) -> None:
        if self._stream is not None:
            await self._stream.aclose()
            self._stream = None

    async def _open(self, effect: Open) -> Answer:
        await self.close()
        with _cuts():
            request = _request(self._http, effect.request, effect.silence_seconds)
            self._stream = await self._http.send(request, stream=True)
            if self._stream.status_code >= 400:
                await self._stream.aread()
                return _answer(self._stream)
        self._chunks = self._stream.aiter_bytes()
        return _answer(self._stream, b"")


class _cuts:  # noqa: N801 - a context manager, used as a word
    """Makes every failure of a connection a ``CutError``."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, httpx.RequestError | httpx.StreamError):
            text = str(error) or type(error).__name__
            raise CutError(text, reached=not isinstance(error, _NOT_SENT)) from None


def _request(
    http: httpx.Client | httpx.AsyncClient, request: Request, silence_seconds: float
) -> httpx.Request:
    connect = http.timeout.connect or silence_seconds
    timeout = httpx.Timeout(silence_seconds, connect=min(connect, silence_seconds))
    files = [(part.name, (part.filename, part.content)) for part in request.parts]
    return http.build_request(
        request.method,
        request.path,
        params=list(request.query) or None,
        headers=dict(request.headers),
        content=request.body,
        files=files or None,
        timeout=timeout,
    )


def _answer(response: httpx.Response, body: bytes | None = None) -> Answer:
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Answer(response.status_code, headers, response.content if body is None else body)
