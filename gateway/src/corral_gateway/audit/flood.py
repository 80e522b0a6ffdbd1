"""Requests that are turned away at the door: each is recorded, until there are so many that they are counted. Pure.

Without this, whoever has no key at all could fill the disk with refusals.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

from corral_gateway.audit.records import RequestEnded

#: So many of one source and reason are recorded one by one in each window.
EACH = 20
#: So many sources and reasons are told apart in a window; the others are counted together.
SOURCES = 500
WINDOW = timedelta(minutes=1)
_OTHERS = "many"

_Key = tuple[str, str]


class Flood:
    """Decides which refusals are recorded by themselves, and counts the others."""

    def __init__(self) -> None:
        self._seen: dict[_Key, int] = {}
        #: The latest of those that were only counted, and how many they were.
        self._counted: dict[_Key, RequestEnded] = {}

    def let_through(self, refused: RequestEnded) -> RequestEnded | None:
        """Return what is to be recorded at once; None: it was counted."""
        key = refused.request.source, refused.reason or ""
        if key not in self._seen and len(self._seen) >= SOURCES:
            key = _OTHERS, key[1]
        seen = self._seen[key] = self._seen.get(key, 0) + 1
        if seen <= EACH:
            return refused
        before = self._counted.get(key)
        request = refused.request
        if key[0] == _OTHERS:
            request = replace(request, source=_OTHERS, user_agent="", target="", caller="", credential="")
        if before is not None:
            request = replace(request, began=before.request.began)
        self._counted[key] = replace(
            refused, request=request, count=1 if before is None else before.count + 1
        )
        return None

    @property
    def waits(self) -> bool:
        """Something was counted and is not recorded yet."""
        return bool(self._counted)

    def end_of_window(self) -> Iterator[RequestEnded]:
        """Yield a record for each that was counted, and count anew."""
        counted, self._counted, self._seen = self._counted, {}, {}
        yield from counted.values()
