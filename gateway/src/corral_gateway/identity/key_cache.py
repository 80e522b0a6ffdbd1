"""API keys in memory, so that no request waits for the database.

What was changed on this machine is seen by the next request: a file's identity tells. What was changed elsewhere, on a
database that several share, is seen within half a second.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import datetime
from http import HTTPStatus

from sqlalchemy.exc import SQLAlchemyError

from corral_gateway.identity.api_key import ApiKey
from corral_gateway.identity.key_store import KeyStore
from corral_gateway.problems import ProblemError

log = logging.getLogger(__name__)

#: A revoked key opens nothing any more after so long, wherever it was revoked.
_STALE_SECONDS = 0.5
#: A key that is not known may have been made just now; the database is asked for news no more often than this.
_UNKNOWN_SECONDS = 0.1
#: What somebody changed by hand in the database counts no version; it is seen after so long.
_WHOLE_SECONDS = 30.0
#: "Last used" is written down so often.
_USED_SECONDS = 60.0


class KeyCache:
    """All keys of a store."""

    def __init__(self, store: KeyStore, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._keys: dict[str, ApiKey] = {}
        self._version = -1
        self._mark: tuple[int, int] | None = None
        self._checked = self._loaded = -1e9
        self._refreshing = asyncio.Lock()
        self._used: dict[str, datetime] = {}
        self._written = clock()
        self._writing: asyncio.Task[None] | None = None

    async def find(self, prefix: str) -> ApiKey | None:
        """Return the key of a prefix.

        Raises:
            ProblemError: the database does not answer, so nobody knows whether it was revoked.
        """
        await self._look(_STALE_SECONDS)
        found = self._keys.get(prefix)
        if found is None:
            await self._look(_UNKNOWN_SECONDS)
            found = self._keys.get(prefix)
        return found

    def used(self, key: ApiKey, now: datetime) -> None:
        """Note that a key opened something; written down later."""
        self._used[key.prefix] = now
        if self._clock() - self._written >= _USED_SECONDS and self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._write())

    async def close(self) -> None:
        """Write down what was noted."""
        if self._writing is not None:
            await self._writing
        await self._write()

    async def _look(self, most_seconds: float) -> None:
        """Make sure that what is in memory was so at most that long before now."""
        asked = self._clock()
        if self._is_new_enough(asked - most_seconds):
            return
        async with self._refreshing:
            if self._is_new_enough(asked - most_seconds):
                return
            try:
                await self._refresh()
            except (SQLAlchemyError, OSError) as error:
                log.warning("the keys cannot be read: %s", error)
                raise ProblemError(
                    HTTPStatus.SERVICE_UNAVAILABLE,
                    "IdentityUnavailable",
                    "nobody's key can be checked at the moment",
                    remedy="try again soon",
                    retry_after_seconds=1,
                ) from None

    def _is_new_enough(self, since: float) -> bool:
        return self._checked >= since and self._store.mark() == self._mark

    async def _refresh(self) -> None:
        # Times and marks are taken first: what is changed while this reads is seen by the next one.
        began, mark = self._clock(), self._store.mark()
        version = await self._store.version()
        if version != self._version or began - self._loaded >= _WHOLE_SECONDS:
            self._keys = {key.prefix: key for key in await self._store.all()}
            self._version, self._loaded = version, began
        self._checked, self._mark = began, mark

    async def _write(self) -> None:
        used, self._used = self._used, {}
        self._written = self._clock()
        try:
            if used:
                await self._store.used(used)
        except (SQLAlchemyError, OSError):
            log.exception("when keys were last used could not be written down")
            self._used = used | self._used
        finally:
            self._writing = None
