"""What was said of credentials a moment ago. Bounded in time and memory; of a credential only its hash is kept."""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from corral_gateway.identity.caller import Caller

#: Answers that are remembered; the oldest goes first.
_MOST = 10_000


@dataclass(frozen=True, slots=True)
class Answer:
    """What was said of a credential."""

    #: None: it opens nothing.
    caller: Caller | None
    until: float


class Remembered:
    """Answers, each for some seconds and no longer than its credential is good."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._answers: OrderedDict[bytes, Answer] = OrderedDict()

    def __len__(self) -> int:
        return len(self._answers)

    def answer(self, text: str) -> Answer | None:
        """Return what was said of a credential; None: nothing, or too long ago."""
        answer = self._answers.get(digest_of(text))
        return answer if answer is not None and self._clock() < answer.until else None

    def keep(self, text: str, caller: Caller | None, asked: float) -> None:
        """Remember an answer.

        Args:
            text: the credential.
            caller: whose it is; None: it opens nothing.
            asked: when that was asked, by the clock: it may have changed while the answer was on its way.
        """
        until = asked + self._seconds
        if caller is not None and caller.expires_at is not None:
            left = (caller.expires_at - datetime.now(UTC)).total_seconds()
            until = min(until, self._clock() + left)
        digest = digest_of(text)
        self._answers[digest] = Answer(caller, until)
        self._answers.move_to_end(digest)
        if len(self._answers) > _MOST:
            self._answers.popitem(last=False)

    def forget(self) -> None:
        """Forget all."""
        self._answers.clear()


def digest_of(text: str) -> bytes:
    """Return what a credential is remembered by."""
    return hashlib.sha256(text.encode()).digest()
