"""Where an issuer's keys come from: the settings, a file that may change, or an endpoint that may be down."""

import asyncio
import logging
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Protocol

import httpx

from corral_gateway.identity.jwt.issuer import JwtIssuer
from corral_gateway.identity.jwt.keys import KeyProblemError, VerificationKey, keys_of_jwks
from corral_gateway.problems import ProblemError

log = logging.getLogger(__name__)

#: An endpoint that takes longer is down.
_FETCH_SECONDS = 5.0
#: More is no key set.
_MOST_BYTES = 256 << 10


class FetchError(Exception):
    """A key set could not be had."""


class KeySource(Protocol):
    """An issuer's keys."""

    async def keys(self, kid: str | None) -> Sequence[VerificationKey]:
        """Return the keys of a name; for None, all of them.

        Raises:
            ProblemError: nobody knows them at the moment.
        """
        ...

    async def close(self) -> None:
        """End what was begun."""
        ...


class StaticKeys:
    """Implements ``KeySource`` for a key that the settings give. It has no name, so tokens may say any."""

    def __init__(self, keys: Sequence[VerificationKey]) -> None:
        self._keys = tuple(keys)

    async def keys(self, kid: str | None) -> Sequence[VerificationKey]:
        """See ``KeySource``."""
        del kid
        return self._keys

    async def close(self) -> None:
        """See ``KeySource``."""


class KeySet:
    """Implements ``KeySource`` for a JSON Web Key Set that is fetched, and kept for a while."""

    def __init__(
        self,
        issuer: JwtIssuer,
        fetch: Callable[[], Awaitable[bytes]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._issuer = issuer
        self._fetch = fetch
        self._clock = clock
        self._keys: list[VerificationKey] = []
        self._loaded = self._tried = float("-inf")
        self._failing = False
        self._fetching = asyncio.Lock()
        self._background: asyncio.Task[None] | None = None

    async def keys(self, kid: str | None) -> Sequence[VerificationKey]:
        """See ``KeySource``."""
        now = self._clock()
        if now - self._loaded >= self._issuer.cache_seconds and self._may_try(now):
            await self._renew()
        found = self._named(kid)
        if not found and kid is not None and self._may_try(now):
            # The issuer may have begun to sign with a new key.
            await self._refresh()
            found = self._named(kid)
        if self._clock() - self._loaded >= self._issuer.cache_seconds + self._issuer.stale_seconds:
            raise ProblemError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "IdentityUnavailable",
                "tokens of this issuer cannot be checked at the moment",
                remedy="try again soon",
                retry_after_seconds=max(1, round(self._issuer.refetch_seconds)),
            )
        return found

    async def close(self) -> None:
        """See ``KeySource``."""
        if self._background is not None:
            self._background.cancel()
            await asyncio.gather(self._background, return_exceptions=True)

    def _may_try(self, now: float) -> bool:
        return now - self._tried >= self._issuer.refetch_seconds

    def _named(self, kid: str | None) -> list[VerificationKey]:
        return [key for key in self._keys if kid is None or key.kid in {None, kid}]

    async def _renew(self) -> None:
        """Ask for the set again; nobody waits for an endpoint that did not answer the last time."""
        if not (self._failing and self._keys):
            await self._refresh()
        elif self._background is None or self._background.done():
            self._background = asyncio.get_running_loop().create_task(self._refresh())

    async def _refresh(self) -> None:
        async with self._fetching:
            # What was so before it was asked for; it may change while the answer is on its way.
            began = self._clock()
            if not self._may_try(began):
                return  # somebody else has, while this waited
            try:
                self._keys = keys_of_jwks(await self._fetch())
            except (FetchError, KeyProblemError) as error:
                self._failing = True
                log.warning("the keys of the issuer %s could not be renewed: %s", self._issuer.name, error)
            else:
                self._failing = False
                self._loaded = began
            # Not set where who asked has gone meanwhile: the next one asks again.
            self._tried = self._clock()


class Endpoint:
    """Fetches a key set."""

    def __init__(self, url: str, ca_file: Path | None) -> None:
        verify = ssl.create_default_context(cafile=ca_file) if ca_file is not None else True
        # A redirect could lead to anywhere, so to somebody else's keys.
        self._client = httpx.AsyncClient(verify=verify, timeout=_FETCH_SECONDS, follow_redirects=False)
        self._url = url

    async def fetch(self) -> bytes:
        """Return what it answers.

        Raises:
            FetchError: it does not, or not as it should.
        """
        try:
            async with asyncio.timeout(_FETCH_SECONDS):
                return await self._answer()
        except (httpx.HTTPError, TimeoutError, OSError) as error:
            raise FetchError(repr(error)) from None

    async def _answer(self) -> bytes:
        async with self._client.stream("GET", self._url, headers={"Accept": "application/json"}) as answer:
            if answer.status_code != HTTPStatus.OK:
                raise FetchError(f"it answers {answer.status_code}")
            data = b""
            async for chunk in answer.aiter_bytes():
                data += chunk
                if len(data) > _MOST_BYTES:
                    raise FetchError(f"it answers more than {_MOST_BYTES} bytes")
            return data

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


class KeySetFile:
    """Implements ``KeySource`` for a key set in a file, read again when it changes."""

    def __init__(self, path: Path, issuer: str) -> None:
        self._path = path
        self._issuer = issuer
        self._keys: list[VerificationKey] = []
        self._seen: tuple[int, int, int] | None = None

    async def keys(self, kid: str | None) -> Sequence[VerificationKey]:
        """See ``KeySource``. A file that cannot be read, or is no key set, verifies nothing."""
        try:
            status = self._path.stat()
            seen = status.st_mtime_ns, status.st_size, status.st_ino
            if seen != self._seen:
                self._keys = keys_of_jwks(await asyncio.to_thread(self._path.read_bytes))
                self._seen = seen
        except (OSError, KeyProblemError) as error:
            log.warning("the keys of the issuer %s cannot be read: %s", self._issuer, error)
            self._keys, self._seen = [], None
        return [key for key in self._keys if kid is None or key.kid in {None, kid}]

    async def close(self) -> None:
        """See ``KeySource``."""
