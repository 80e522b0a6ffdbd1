"""When a request is sent again, and after how long."""

import json
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from corral.client.gateway.conversation import Answer, CutError, Open, Pause, Request, Send, Talk
from corral.client.gateway.errors import (
    GatewayError,
    RateLimitedError,
    TimedOutError,
    UnavailableError,
    UnreachableError,
    refusal,
)

#: Doubled with each try, up to the longest; the first try again finds a gateway that was only started anew.
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0
#: A URL that has never answered is more likely wrong than a gateway that is just being started.
_FIRST_PATIENCE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Clock:
    """Time and chance, so that tests can have their own."""

    #: Seconds, from anywhere.
    now: Callable[[], float] = time.monotonic
    #: From 0 to 1.
    chance: Callable[[], float] = random.random


@dataclass(frozen=True, slots=True)
class Deadline:
    """Until when a whole conversation may take."""

    clock: Clock
    ends_at: float = math.inf

    @classmethod
    def after(cls, clock: Clock, seconds: float | None) -> "Deadline":
        """Return the one so many seconds from now; None: there is none."""
        return cls(clock, math.inf if seconds is None else clock.now() + seconds)

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return self.ends_at - self.clock.now()

    def at_most(self, seconds: float) -> float:
        """Return so many seconds, or what is left.

        Raises:
            TimedOutError: nothing is.
        """
        left = self.left
        if left <= 0:
            raise TimedOutError("the time given is over, and there is no answer yet")
        return min(seconds, left)


@dataclass(slots=True)
class Sender:
    """Sends requests until they are answered or patience ends. One for a client: it remembers who answered."""

    clock: Clock
    #: How long a gateway that is away, or has no room, is asked again.
    patience_seconds: float
    _answered: bool = field(default=False, init=False)

    def send(
        self, request: Request, deadline: Deadline, *, silence_seconds: float = 30.0, opens: bool = False
    ) -> Talk[Answer]:
        """Return the answer to a request that was not refused.

        Args:
            request: sent again only where that cannot do a thing twice.
            deadline: of it all, pauses included.
            silence_seconds: after which a connection counts as cut.
            opens: leave the body to be read.

        Raises:
            GatewayError: it was refused, nobody answered for as long as the client is patient, or time is over.
        """
        tries = 0
        began: float | None = None
        while True:
            seconds = deadline.at_most(silence_seconds)
            try:
                answer: Answer = yield (Open if opens else Send)(request, seconds)
            except CutError as cut:
                trouble: GatewayError = _unreachable(cut)
                is_safe = request.repeatable or not cut.reached
                patience = self.patience_seconds
                if not self._answered:
                    patience = min(patience, _FIRST_PATIENCE_SECONDS)
            else:
                self._answered = True
                if answer.status < 400:
                    return answer
                trouble = error_in(answer, datetime.now(UTC))
                is_safe = request.repeatable or _was_not_begun(trouble)
                patience = self.patience_seconds
            deadline.at_most(0)
            now = self.clock.now()
            began = now if began is None else began
            pause = self._pause(tries, trouble.retry_after_seconds)
            if not is_safe or not _may_pass(trouble) or now + pause - began > patience:
                raise trouble
            if pause >= deadline.left:
                raise TimedOutError(f"the time given is over: {trouble.detail}") from trouble
            tries += 1
            yield Pause(pause)

    def backoff(self, tries: int) -> float:
        """Return how many seconds to let pass before the try after so many."""
        longest = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2.0 ** min(tries, 20))
        # Not all who were cut off come back in the same moment.
        return longest * (0.5 + self.clock.chance() / 2)

    def _pause(self, tries: int, retry_after_seconds: float | None) -> float:
        own = self.backoff(tries)
        return own if retry_after_seconds is None else retry_after_seconds + min(own, 0.5)


def error_in(answer: Answer, now: datetime) -> GatewayError:
    """Return the error that an answer of 400 or more is.

    Args:
        answer: with its body.
        now: to make seconds of a ``Retry-After`` that is a date.
    """
    try:
        body = json.loads(answer.body)
    except (ValueError, RecursionError):
        body = None
    return refusal(
        answer.status,
        body,
        retry_after_seconds=_seconds(answer.headers.get("retry-after"), now),
        request_id=answer.headers.get("x-request-id"),
    )


def _seconds(text: str | None, now: datetime) -> float | None:
    """Return what ``Retry-After`` says: seconds, or a date (RFC 9110, 10.2.3)."""
    if text is None:
        return None
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (date.astimezone(UTC) - now).total_seconds())


def _unreachable(cut: CutError) -> UnreachableError:
    return UnreachableError(
        f"the gateway cannot be reached: {cut}",
        remedy="start it (corral serve), or correct its URL (CORRAL_GATEWAY)",
    )


def _may_pass(trouble: GatewayError) -> bool:
    return isinstance(trouble, UnreachableError | RateLimitedError | UnavailableError)


def _was_not_begun(trouble: GatewayError) -> bool:
    """Whether the gateway itself says that it did nothing; a proxy may not know."""
    if isinstance(trouble, RateLimitedError):
        return True
    return trouble.status == 503 and trouble.reason != "NoProblem"
