"""Writes records: many in one transaction, in the order they came.

Who begins something that changes anything waits until its record is safe. Everything else is written behind, within a
moment. When nothing can be written, what may still be taken in is known here, and nothing that was taken in is lost.
"""

import asyncio
import contextlib
import errno
import logging
import math
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol

from corral_gateway.audit.chain import START, Head
from corral_gateway.audit.flood import WINDOW, Flood
from corral_gateway.audit.records import Happening, Interruption, Kind, OfTheAudit, RequestEnded
from corral_gateway.problems import ProblemError

log = logging.getLogger(__name__)

#: Records in one transaction.
_BATCH = 500
#: What is written behind waits so long for more at most, ...
_LINGER_SECONDS = 0.05
#: ... and no longer than until nothing came for so long: who calls one after the other does not meet it.
_LULL_SECONDS = 0.005
#: So many may wait before new requests, also those that only read, are refused.
MOST_WAITING = 10_000
#: Beyond this, what comes is counted and no longer kept: some other program's tasks may end without bound.
_MOST_KEPT = 100_000
#: A request waits so long for its record.
_PATIENCE_SECONDS = 10.0
_RETRY_SECONDS = 0.5
_CLOSE_SECONDS = 10.0


class UnwritableRecordError(Exception):
    """A record is at fault, not where it should go: it will never be taken. Its cause says why."""


class AuditStore(Protocol):
    """Where records go."""

    async def append(self, happenings: Sequence[Happening]) -> tuple[Head, int]:
        """Add records to the log; return its end, and how many were new. All, or none and an exception.

        Raises:
            UnwritableRecordError: one of them cannot be written, ever.
        """
        ...

    async def sign(self, head: Head) -> None:
        """Sign a head, and keep it."""
        ...


class RecorderMetrics(Protocol):
    """What is counted here."""

    def recorded(self, kind: str, count: int) -> None:
        """Count records written."""
        ...

    def audit_failed(self) -> None:
        """Count an attempt to write that failed."""
        ...


@dataclass(frozen=True, slots=True)
class _Waiting:
    what: Happening
    #: Told when it is safe; None: nobody waits.
    safe: "asyncio.Future[None] | None"


class Recorder:
    """The one writer of one gateway."""

    def __init__(
        self, store: AuditStore, metrics: RecorderMetrics, head_records: int, head_seconds: float
    ) -> None:
        self._store = store
        self._metrics = metrics
        self._head_records = head_records
        self._head_seconds = head_seconds
        self._waiting: deque[_Waiting] = deque()
        self._flood = Flood()
        self._wake = asyncio.Event()
        self._urgent = asyncio.Event()
        self._closing = False
        self._interruption: Interruption | None = None
        self._head = START
        self._unsigned = 0
        self._sign_at = math.inf
        self._flood_at = math.inf
        self._work: asyncio.Task[None] | None = None

    @property
    def failing(self) -> str | None:
        """Why nothing can be written now; None: it can."""
        return None if self._interruption is None else self._interruption.why

    @property
    def depth(self) -> int:
        """How many records wait."""
        return len(self._waiting)

    def start(self) -> None:
        """Begin to write."""
        self._work = asyncio.get_running_loop().create_task(self._write_for_ever(), name="audit")

    async def close(self) -> None:
        """Write what waits, and sign where the log ends."""
        for counted in self._flood.end_of_window():
            self.note(counted)
        self._closing = True
        self._wake.set()
        self._urgent.set()
        if self._work is None:
            return
        done, _ = await asyncio.wait([self._work], timeout=_CLOSE_SECONDS)
        if not done:
            self._work.cancel()
            await asyncio.wait([self._work])
            log.error("%d audit records could not be written: %s", len(self._waiting), self.failing)

    def note(self, what: Happening) -> None:
        """Have something written down soon."""
        if len(self._waiting) >= _MOST_KEPT:
            if self._interruption is not None:
                self._interruption.lost += 1
            return
        self._waiting.append(_Waiting(what, None))
        self._wake.set()

    def note_refused(self, refused: RequestEnded) -> None:
        """Have a request that was turned away written down, by itself or in a count."""
        one = self._flood.let_through(refused)
        if one is not None:
            self.note(one)
        elif self._flood_at == math.inf:
            self._flood_at = asyncio.get_running_loop().time() + WINDOW.total_seconds()
            self._wake.set()

    def admit(self) -> None:
        """Let a request in whose record can be kept until it is written.

        Raises:
            ProblemError: so many wait that it cannot.
        """
        if len(self._waiting) >= MOST_WAITING:
            raise self._unavailable(self.failing or "more happens than can be written")

    async def write(self, what: Happening) -> None:
        """Write something down, and return when it is safe.

        Raises:
            ProblemError: it cannot be.
        """
        if self._interruption is not None:
            raise self._unavailable(self._interruption.why)
        self.admit()
        safe: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(what, safe))
        self._wake.set()
        self._urgent.set()
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await safe
        except TimeoutError:
            raise self._unavailable("the database takes too long") from None

    def _unavailable(self, why: str) -> ProblemError:
        if self._interruption is not None:
            self._interruption.refused += 1
        return ProblemError(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "AuditUnavailable",
            f"the audit cannot be written, so nothing new is begun: {why}",
            remedy="see to the gateway's database and its disk; it goes on by itself when they are well",
            retry_after_seconds=5,
        )

    async def _write_for_ever(self) -> None:
        while True:
            await self._something_to_do()
            if await self._write_some() and self._closing and not self._waiting:
                return

    async def _something_to_do(self) -> None:
        """Wait for a record that somebody waits for, for others a moment longer, or for the time of a head."""
        loop = asyncio.get_running_loop()
        if not self._waiting and not self._closing:
            await _set_within(self._wake, min(self._sign_at, self._flood_at) - loop.time())
        written_at = loop.time() + _LINGER_SECONDS
        while not self._closing and not self._urgent.is_set() and loop.time() < written_at:
            count = len(self._waiting)
            await _set_within(self._urgent, _LULL_SECONDS)
            if len(self._waiting) == count:
                break
        self._wake.clear()
        self._urgent.clear()
        if loop.time() >= self._flood_at:
            self._flood_at = math.inf
            for counted in self._flood.end_of_window():
                self.note(counted)

    async def _write_some(self) -> bool:
        """Write what waits, or some of it. Returns whether that went well."""
        batch = [self._waiting[place] for place in range(min(_BATCH, len(self._waiting)))]
        try:
            if batch:
                await self._write_batch(batch)
            await self._sign_if_due()
        # Whatever it is: the records stay and are tried again, and new work is refused meanwhile.
        except Exception as error:  # noqa: BLE001
            self._failed(error)
            await asyncio.sleep(_RETRY_SECONDS)
            return False
        if self._interruption is not None:
            log.warning("the audit can be written again")
            self._interruption = None
        if self._waiting:
            self._urgent.set()
        return True

    async def _write_batch(self, batch: Sequence[_Waiting]) -> None:
        try:
            self._head, _ = await self._store.append([one.what for one in batch])
        except UnwritableRecordError:
            # One of them is at fault, and must not keep all others from being written.
            for one in batch:
                await self._write_one(one)
        else:
            self._written(batch)

    async def _write_one(self, one: _Waiting) -> None:
        try:
            self._head, _ = await self._store.append([one.what])
        except UnwritableRecordError as error:
            log.exception(
                "a record of kind %s cannot be written; the log says that it is missing", one.what.kind
            )
            said = {"of": one.what.kind.value, "error": type(error.__cause__).__name__}
            self._head, _ = await self._store.append([OfTheAudit(Kind.AUDIT_DAMAGED, said)])
            if one.safe is not None and not one.safe.done():
                one.safe.set_exception(self._unavailable("its database does not take this record"))
        self._written([one])

    def _written(self, batch: Sequence[_Waiting]) -> None:
        for one in batch:
            self._waiting.popleft()
            if one.safe is not None and not one.safe.done():
                one.safe.set_result(None)
        for kind, count in Counter(one.what.kind.value for one in batch).items():
            self._metrics.recorded(kind, count)
        self._unsigned += len(batch)
        self._sign_at = min(self._sign_at, asyncio.get_running_loop().time() + self._head_seconds)

    async def _sign_if_due(self) -> None:
        due = self._unsigned >= self._head_records or asyncio.get_running_loop().time() >= self._sign_at
        if self._unsigned and (due or (self._closing and not self._waiting)):
            await self._store.sign(self._head)
            self._unsigned, self._sign_at = 0, math.inf

    def _failed(self, error: Exception) -> None:
        """Know why, keep what was behind, and refuse those who wait: nothing of theirs has begun."""
        self._metrics.audit_failed()
        if self._interruption is None:
            log.error("the audit cannot be written: %s: %s", type(error).__name__, error)
            self._interruption = Interruption(_why(error))
            self._waiting.append(_Waiting(self._interruption, None))
        for one in self._waiting:
            if one.safe is not None and not one.safe.done():
                one.safe.set_exception(self._unavailable(self._interruption.why))
        self._waiting = deque(one for one in self._waiting if one.safe is None)


def _why(error: Exception) -> str:
    """Return what a caller may know of it; the log has the rest."""
    cause = getattr(error, "orig", error)
    if getattr(cause, "errno", None) == errno.ENOSPC or "full" in str(cause) or "No space" in str(cause):
        return "the disk is full"
    return "its database does not take it"


async def _set_within(event: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(None if seconds == math.inf else max(0, seconds)):
            await event.wait()
