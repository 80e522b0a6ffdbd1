"""The chain: canonical JSON, and a hash that takes in the one before it. Pure.

``hash(n) = SHA-256(hash(n-1) || record(n))``, the hash before the first being 32 zero bytes. Whoever changes, takes out
or moves a record has to change every hash after it, and then no longer meets a head that was signed.
"""

import hashlib
import json
import math
from dataclasses import dataclass
from typing import Any

#: Before the first record, as hexadecimal digits.
ORIGIN = "0" * 64

_encoder = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


@dataclass(frozen=True, slots=True)
class Head:
    """Where a log ends: what vouches for everything before it."""

    seq: int
    #: Of the record with that number; hexadecimal.
    hash: str


START = Head(0, ORIGIN)


def canonical(record: Any) -> str:
    """Return the one text of a JSON value: sorted keys, no spaces, ASCII.

    A number that JSON has not, such as NaN, becomes null: a program's arguments may hold it, no record may.
    """
    try:
        return _encoder.encode(record)
    except ValueError:
        return _encoder.encode(_finite(record))


def link(previous: str, record: str) -> str:
    """Return the hash of a record, given as its canonical text, after the one with the hash ``previous``."""
    return hashlib.sha256(bytes.fromhex(previous) + record.encode("ascii")).hexdigest()


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return value
