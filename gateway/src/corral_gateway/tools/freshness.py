"""``Cache-Control`` of a request (RFC 9111), as far as results that are used again heed it. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Freshness:
    """What a caller wants of a result."""

    #: Not older than so many seconds; None: as old as its tool allows. 0: executed now.
    max_age_seconds: float | None = None
    #: It may be kept for the next call.
    may_store: bool = True


def freshness_of(cache_control: str | None) -> Freshness:
    """Return what a header asks for. What is not known or cannot be read is left out, as the RFC asks."""
    max_age, may_store = None, True
    for directive in (cache_control or "")[:1000].lower().split(","):
        name, _, value = directive.strip().partition("=")
        if name == "no-cache":
            max_age = 0.0
        elif name == "no-store":
            max_age, may_store = 0.0, False
        elif name == "max-age" and value.isascii() and value.isdigit() and len(value) < 10:
            max_age = min(float(value), float("inf") if max_age is None else max_age)
    return Freshness(max_age, may_store)
