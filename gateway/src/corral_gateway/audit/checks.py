"""Checks of records one after the other: whether each is as it was written, and follows the one before it. Pure."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from corral_gateway.audit.chain import ORIGIN, canonical, link
from corral_gateway.audit.log import Stored, searchable


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with a log."""

    #: The record that it is about; None: about the log as a whole.
    seq: int | None
    #: For programs: ``edited``, ``missing``, ``reordered``, ``truncated``, ``forged``, ``unsigned``, ``torn``.
    problem: str
    message: str

    def __str__(self) -> str:
        return f"{self.problem}: {self.message}"


class ChainCheck:
    """Follows the chain from record to record."""

    def __init__(self) -> None:
        self.first: Stored | None = None
        self.last: Stored | None = None

    def take(self, one: Stored, *, columns: dict[str, object] | None = None) -> Iterator[Finding]:
        """Yield what is wrong with the next record.

        Args:
            one: as it lies in the log.
            columns: those of its row that repeat fields of the record; None: it comes from an export.
        """
        before, self.last = self.last, one
        self.first = self.first or one
        if before is not None:
            yield from _follows(before, one)
        elif one.seq == 1 and one.previous != ORIGIN:
            yield Finding(1, "edited", "record 1 does not begin the chain")
        yield from _is_whole(one, columns)


def _follows(before: Stored, one: Stored) -> Iterator[Finding]:
    if one.seq > before.seq + 1:
        missing = _span(before.seq + 1, one.seq - 1)
        yield Finding(before.seq + 1, "missing", f"{missing} missing between {before.seq} and {one.seq}")
    elif one.seq <= before.seq:
        yield Finding(one.seq, "reordered", f"record {one.seq} comes after record {before.seq}")
    elif one.previous != before.hash:
        message = f"record {one.seq} does not follow record {before.seq}: one of them is not what was written"
        yield Finding(one.seq, "reordered", message)


def _is_whole(one: Stored, columns: dict[str, object] | None) -> Iterator[Finding]:
    try:
        said = json.loads(one.record)
        whole = isinstance(said, dict) and canonical(said) == one.record
        digest = link(one.previous, one.record)
    except ValueError:  # no JSON, no hexadecimal digits, or not ASCII
        said, whole, digest = None, False, ""
    if not whole or digest != one.hash:
        yield Finding(one.seq, "edited", f"record {one.seq} was changed: its hash is of something else")
        return
    if said.get("seq") != one.seq:
        message = f"record {one.seq} stood in the place of record {said.get('seq')}"
        yield Finding(one.seq, "reordered", message)
    elif columns is not None:
        for name, value in searchable(said).items():
            if columns[name] != value:
                message = f"the column {name} of record {one.seq} was changed: the record says otherwise"
                yield Finding(one.seq, "forged", message)


def _span(first: int, last: int) -> str:
    return f"record {first} is" if first == last else f"records {first} to {last} are"
