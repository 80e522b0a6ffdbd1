"""Exports, and checking one without the database it came from."""

import json
from collections.abc import Iterable

from corral_gateway.audit.chain import Head, canonical
from corral_gateway.audit.checks import ChainCheck, Finding
from corral_gateway.audit.heads import SignedHead, head_of
from corral_gateway.audit.log import Stored
from corral_gateway.audit.verification import Verdict, agrees


def verify_lines(
    lines: Iterable[bytes], keys: frozenset[str], anchors: Iterable[Head] = (), *, filtered: bool = False
) -> Verdict:
    """Check JSON lines, as ``corral audit export`` writes them.

    Args:
        lines: of the file.
        keys: public keys that are believed; hexadecimal.
        anchors: heads that somebody has kept elsewhere.
        filtered: records may be missing; then each is checked by itself, and nothing vouches for what is not there.
    """
    verdict, check = Verdict(), ChainCheck()
    heads: list[SignedHead] = []
    hashes: dict[int, str] = {}
    for number, line in enumerate(lines, 1):
        said = _json(line)
        head = head_of(said)
        one = _stored(said)
        if head is not None:
            heads.append(head)
        elif one is None:
            verdict.add([Finding(None, "torn", f"line {number} is no record, or only a part of one")])
        else:
            verdict.add(each for each in check.take(one) if not (filtered and each.problem == "missing"))
            verdict.records += 1
            verdict.first = verdict.first or one.seq
            verdict.end = Head(one.seq, one.hash)
            hashes[one.seq] = one.hash
    anchored = [(anchor, "given") for anchor in anchors]
    for head in heads:
        if head.public_key not in keys or not head.is_signed:
            verdict.notes.append(f"the head of record {head.seq} was signed with no key that was given")
        elif head.kind == "head":
            anchored.append((Head(head.seq, head.hash), f"in the export, signed at {head.time}"))
    for anchor, where in anchored:
        verdict.add(agrees(anchor, where, hashes, verdict, is_whole=not filtered))
    return verdict


def _json(line: bytes) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _stored(said: object) -> Stored | None:
    """Return the record of a line; None: it holds none."""
    match said:
        case {"hash": str(digest), "previous": str(previous), "record": {"seq": int(seq)} as record}:
            time, kind = str(record.get("time")), str(record.get("kind"))
            return Stored(seq, time, kind, canonical(record), previous, digest)
        case _:
            return None
