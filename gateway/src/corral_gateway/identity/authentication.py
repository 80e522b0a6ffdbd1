"""Finds out who sends a request, before anything else is looked at."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus

from corral_gateway.identity.caller import Caller
from corral_gateway.identity.failed_attempts import FailedAttempts
from corral_gateway.identity.verifiers import RefusedCredentialError, Verifier
from corral_gateway.problems import ProblemError

log = logging.getLogger(__name__)

#: No credential of any kind is longer.
_MOST_CHARACTERS = 16 << 10


@dataclass(frozen=True, slots=True)
class Credentials:
    """What somebody sent to prove who they are: HTTP headers, or gRPC metadata of the same names."""

    api_key: str | None = None
    authorization: str | None = None

    @property
    def bearer(self) -> str | None:
        """The token of ``Authorization: Bearer``."""
        scheme, _, value = (self.authorization or "").partition(" ")
        return value.strip() if scheme.lower() == "bearer" else None


class Authentication:
    """Knows callers by their credentials."""

    def __init__(
        self,
        keys: Sequence[Verifier],
        tokens: Sequence[Verifier],
        failed: FailedAttempts,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make it.

        Args:
            keys: for what comes as ``X-API-Key``, or as a bearer token.
            tokens: for what comes as a bearer token alone. Each is asked in turn until one knows the kind.
            failed: counts what opens nothing.
            clock: seconds.
        """
        self._keys = tuple(keys)
        self._bearer = (*keys, *tokens)
        self._failed = failed
        self._clock = clock

    async def caller(self, credentials: Credentials, source: str) -> Caller:
        """Return who sends a request.

        Args:
            credentials: what they sent.
            source: the address they send it from.

        Raises:
            ProblemError: nobody who is known. Why, only the log says.
        """
        if credentials.api_key is not None:
            return await self._known(credentials.api_key, source, self._keys)
        if credentials.bearer is not None:
            return await self._known(credentials.bearer, source, self._bearer)
        raise _nobody("a credential is needed", 'Bearer realm="corral"')

    async def close(self) -> None:
        """End what was begun, and write down what was noted."""
        for verifier in self._bearer:
            await verifier.close()

    async def _known(self, text: str, source: str, verifiers: Sequence[Verifier]) -> Caller:
        why = "of no kind that is known here"
        try:
            for verifier in verifiers if len(text) <= _MOST_CHARACTERS else ():
                caller = verifier.known(text)
                seconds = self._failed.wait_seconds(source, self._clock()) if verifier.costs else 0
                if caller is None and seconds:
                    raise _flood(seconds)
                caller = caller or await verifier.verify(text)
                if caller is not None:
                    return caller
        except RefusedCredentialError as error:
            why = str(error)
        now = self._clock()
        seconds = self._failed.wait_seconds(source, now)
        count = self._failed.note(source, now)
        if seconds:
            raise _flood(seconds)
        log.warning("a credential from %s was refused: %s", source or "somewhere", why)
        if self._failed.wait_seconds(source, now):
            log.warning("that was number %d from there; the next ones are not logged for a while", count)
        raise _nobody("this credential is not valid", 'Bearer realm="corral", error="invalid_token"')


def _flood(seconds: int) -> ProblemError:
    return ProblemError(
        HTTPStatus.TOO_MANY_REQUESTS,
        "TooManyFailedAttempts",
        "too many credentials from your address were not valid",
        remedy="try again after the time that Retry-After names, or send a credential that is valid",
        retry_after_seconds=seconds,
    )


def _nobody(detail: str, challenge: str) -> ProblemError:
    return ProblemError(
        HTTPStatus.UNAUTHORIZED,
        "Unauthenticated",
        detail,
        remedy="send X-API-Key: corral_… or Authorization: Bearer …; an admin makes a key: corral keys create",
        headers={"WWW-Authenticate": challenge},
    )
