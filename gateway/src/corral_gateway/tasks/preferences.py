"""How long a request wants to wait for its task: ``?wait=30s`` or ``Prefer`` (RFC 7240). Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus

from corral.api import QuantityError, parse_duration
from corral_gateway.problems import ProblemError

MOST_WAIT_SECONDS = 300.0

#: What stands between two commas. It never goes back, so that nobody's header can take long to read.
_MEMBER = re.compile(r"""(?:[^,"]|"(?:[^"\\]|\\.)*+"?)++""", re.DOTALL)
#: A token, perhaps with a value that is a token or quoted, perhaps with parameters, of which none here has any.
_PREFERENCE = re.compile(
    r"""\s*+([!#$%&'*+.^_`|~\w-]++)\s*+(?:=\s*+("(?:[^"\\]|\\.)*+"|[^\s;,"]*+))?""",
    re.ASCII,
)
#: More than any program says.
_MOST_CHARACTERS = 1000


@dataclass(frozen=True, slots=True)
class Waiting:
    """How long to wait, and what of the header was heeded."""

    seconds: float = 0
    applied: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        """For the answer."""
        return {} if self.applied is None else {"Preference-Applied": self.applied}


def waiting_of(wait: str | None, prefer: Sequence[str] = ()) -> Waiting:
    """Return how long a request wants to wait.

    Args:
        wait: of the query, such as ``30s``.
        prefer: values of the header; preferences that are not known are left out, as the RFC asks.

    Raises:
        ProblemError: it can not be waited so long, or the two say different things.
    """
    preferences = _preferences(prefer)
    asynchronous, told = "respond-async" in preferences, preferences.get("wait")
    asked = None if wait is None else _duration(wait)
    if told is not None:
        seconds = _seconds(told)
        applied = f"respond-async, wait={told}" if asynchronous else f"wait={told}"
    elif asynchronous:
        seconds, applied = 0.0, "respond-async"
    else:
        return Waiting(asked or 0)
    if asked is not None and asked != seconds:
        raise ProblemError(
            HTTPStatus.BAD_REQUEST,
            "ConflictingPreferences",
            f"wait={wait} and Prefer: {applied} say different things",
            remedy="send one of the two",
        )
    return Waiting(seconds, applied)


def _preferences(values: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for member in _MEMBER.findall(",".join(values)[:_MOST_CHARACTERS]):
        match = _PREFERENCE.match(member)
        if match is not None:
            # Of one that is said twice the first one counts.
            found.setdefault(match[1].lower(), (match[2] or "").strip('"'))
    return found


def _seconds(text: str) -> float:
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        raise _wrong("Prefer", f"wait={text[:32]} is no whole number of seconds")
    return _bounded("Prefer", float(text))


def _duration(text: str) -> float:
    try:
        return _bounded("wait", parse_duration(text))
    except QuantityError as error:
        raise _wrong("wait", str(error)) from None


def _bounded(field: str, seconds: float) -> float:
    if seconds > MOST_WAIT_SECONDS:
        raise _wrong(field, f"at most {MOST_WAIT_SECONDS:g}s are waited in one request")
    return seconds


def _wrong(field: str, message: str) -> ProblemError:
    return ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, "InvalidRequest", f"{field}: {message}")
