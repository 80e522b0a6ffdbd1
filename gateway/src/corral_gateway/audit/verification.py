"""Whether a log is as it was written: the chain, the heads that were signed, and the tables that show it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Table, and_, func, select, tuple_

from corral_gateway.audit.chain import START, Head
from corral_gateway.audit.checks import ChainCheck, Finding
from corral_gateway.audit.heads import SignedHead
from corral_gateway.audit.log import LOG, Stored, end_of, searchable
from corral_gateway.audit.projection import row_of
from corral_gateway.audit.tables import audit_heads, audit_log, decisions, executions, requests

_PAGE = 500
#: More are counted, and not told one by one.
_MOST_FINDINGS = 200
_SEARCHED = tuple(searchable({"time": None, "kind": None}))


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a log is held against, beyond itself."""

    #: Public keys that are believed; hexadecimal.
    keys: frozenset[str] = frozenset()
    #: Heads from the file beside the database, by the numbers of their lines; None: the line holds none.
    file: Sequence[tuple[int, SignedHead | None]] = ()
    #: Heads that somebody has kept elsewhere.
    anchors: Sequence[Head] = ()


@dataclass(slots=True)
class Verdict:
    """What came of it."""

    records: int = 0
    first: int = 0
    end: Head = START
    #: Signed heads that agreed with the log.
    heads: int = 0
    findings: list[Finding] = field(default_factory=list)
    more_findings: int = 0
    #: What is no fault, and worth knowing.
    notes: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Nothing is wrong."""
        return not self.findings

    def add(self, findings: Iterable[Finding]) -> None:
        """Take in what was found."""
        for one in findings:
            if len(self.findings) < _MOST_FINDINGS:
                self.findings.append(one)
            else:
                self.more_findings += 1


def verify(
    connection: Connection, evidence: Evidence, *, chain: bool = True, projections: bool = True
) -> Verdict:
    """Check the log of a database.

    Args:
        connection: that sees one moment of it.
        evidence: what to hold it against.
        chain: without it, changes to the log are not noticed; for showing just that.
        projections: hold the tables against the log.
    """
    verdict = Verdict()
    heads = [SignedHead(**row._mapping) for row in connection.execute(select(audit_heads))]  # noqa: SLF001 - public
    wanted = {head.seq for head in heads}
    wanted |= {head.seq for _, head in evidence.file if head is not None}
    wanted |= {anchor.seq for anchor in evidence.anchors}
    hashes: dict[int, str] = {}
    check = ChainCheck()
    shown = dict.fromkeys(_SHOWN, 0)
    for page in _pages(connection):
        for one, columns in page:
            verdict.records += 1
            if chain:
                verdict.add(check.take(one, columns=columns))
            if one.seq in wanted:
                hashes[one.seq] = one.hash
            verdict.first = verdict.first or one.seq
            verdict.end = Head(one.seq, one.hash)
        if projections:
            verdict.add(_shown_rightly(connection, [one for one, _ in page], shown))
    if chain:
        removed = _believed(heads + [head for _, head in evidence.file if head is not None], evidence.keys)
        verdict.add(
            _beginning(check.first, end_of(connection), [one for one in removed if one.kind == "removed"])
        )
        verdict.add(_written_end(end_of(connection), verdict))
        _hold_against_heads(verdict, heads, evidence, hashes)
    if projections:
        verdict.add(_unfounded(connection, shown))
    return verdict


def _pages(connection: Connection) -> Iterator[list[tuple[Stored, dict[str, object]]]]:
    columns = [audit_log.c[name] for name in _SEARCHED if name not in {"time", "kind"}]
    query = LOG.add_columns(*columns).order_by(audit_log.c.seq).limit(_PAGE)
    after: int | None = None
    while True:
        rows = connection.execute(query if after is None else query.where(audit_log.c.seq > after)).all()
        if not rows:
            return
        page = [(Stored(*row[:6]), {name: getattr(row, name) for name in _SEARCHED}) for row in rows]
        after = page[-1][0].seq
        yield page


def _believed(heads: Sequence[SignedHead], keys: frozenset[str]) -> list[SignedHead]:
    return [head for head in heads if head.public_key in keys and head.is_signed]


def _beginning(first: Stored | None, end: Head, removed: Sequence[SignedHead]) -> Iterator[Finding]:
    """Yield whether what is missing before the first record was removed on purpose."""
    before = Head(first.seq - 1, first.previous) if first is not None else end
    if before == START or any((one.seq, one.hash) == (before.seq, before.hash) for one in removed):
        return
    if before.seq == 0:
        return  # told already: record 1 does not begin the chain
    message = (
        f"records 1 to {before.seq} are missing, and no removal of them was signed with a key that is known"
    )
    yield Finding(1, "missing", message)


def _written_end(end: Head, verdict: Verdict) -> Iterator[Finding]:
    if verdict.records == 0 or end == verdict.end:
        return
    if end.seq > verdict.end.seq:
        message = f"records {verdict.end.seq + 1} to {end.seq} are missing at the end"
        yield Finding(verdict.end.seq + 1, "truncated", message)
    else:
        message = f"the log ends with record {verdict.end.seq}, and its end is written down as {end.seq}"
        yield Finding(verdict.end.seq, "forged", message)


def _hold_against_heads(
    verdict: Verdict, heads: Sequence[SignedHead], evidence: Evidence, hashes: dict[int, str]
) -> None:
    first = verdict.first or verdict.end.seq + 1
    named = [(head, f"in the database for record {head.seq}") for head in heads]
    torn = 0
    for number, head in evidence.file:
        if head is None:
            torn = number
        else:
            named.append((head, f"in line {number} of the file of heads"))
    unknown = {head.public_key for head, _ in named} - evidence.keys
    for head, where in named:
        if not head.is_signed:
            verdict.add([Finding(head.seq, "unsigned", f"the signature {where} is not valid")])
        elif head.kind == "head" and head.public_key not in unknown and head.seq >= first:
            verdict.add(agrees(Head(head.seq, head.hash), f"{where}, signed at {head.time}", hashes, verdict))
    for anchor in evidence.anchors:
        if anchor.seq >= first:
            verdict.add(agrees(anchor, "given", hashes, verdict))
        else:
            verdict.notes.append(f"the head given for record {anchor.seq} is of a record that was removed")
    if torn:
        verdict.notes.append(f"line {torn} of the file of heads holds none: a crash may have torn it")
    for key in sorted(unknown):
        verdict.notes.append(
            f"heads were signed with the key {key}, which was not given; they prove nothing here"
        )


def agrees(
    head: Head, where: str, hashes: dict[int, str], verdict: Verdict, *, is_whole: bool = True
) -> Iterator[Finding]:
    """Yield whether a head that is believed says something else than the records.

    Args:
        head: that was signed, or kept elsewhere.
        where: it was found, for people.
        hashes: of records, by their numbers.
        verdict: counts the heads that agree; knows where the records end.
        is_whole: no records were left out on purpose.
    """
    found = hashes.get(head.seq)
    if found == head.hash:
        verdict.heads += 1
    elif found is not None:
        message = f"record {head.seq} or one before it is not what was signed: see the head {where}"
        yield Finding(head.seq, "edited", message)
    elif head.seq > verdict.end.seq and is_whole:
        first = verdict.end.seq + 1
        message = f"records {first} to {head.seq} are missing at the end: see the head {where}"
        yield Finding(first, "truncated", message)
    # What is missing in the middle is told by the chain.


# --- the tables that show it ---

_SHOWN: dict[Table, Callable[[Any], tuple[Any, ...]]] = {
    requests: lambda row: (row.request_id,),
    decisions: lambda row: (row.seq,),
    executions: lambda row: (row.task_uid, row.execution, row.attempt),
}


def _shown_rightly(
    connection: Connection, page: Sequence[Stored], shown: dict[Table, int]
) -> Iterator[Finding]:
    """Yield where a row does not say what the last record about its subject says."""
    for table, key_of in _SHOWN.items():
        made = []
        for one in page:
            try:
                row = row_of(one.said)
            except (ValueError, KeyError, TypeError, AttributeError):
                continue  # told by the chain: nothing that was written lacks a field
            if row is not None and row.table is table:
                made.append((one.seq, row))
        keys = list({row.key for _, row in made})
        if not keys:
            continue
        query = select(table).where(tuple_(*table.primary_key.columns).in_(keys))
        found = {key_of(row): row for row in connection.execute(query)}
        for seq, row in made:
            there = found.get(row.key)
            if there is None:
                message = f"{table.name} lacks the row of record {seq}"
            elif there.seq < seq:
                message = f"{table.name} does not show record {seq}: its row is of record {there.seq}"
            elif there.seq == seq:
                shown[table] += 1
                wrong = [name for name, value in row.values.items() if getattr(there, name) != value]
                if not wrong:
                    continue
                message = f"{table.name} says otherwise than record {seq} in {', '.join(wrong)}"
            else:
                continue  # shown when that record comes
            yield Finding(seq, "forged", message)


def _unfounded(connection: Connection, shown: dict[Table, int]) -> Iterator[Finding]:
    """Yield rows that no record speaks of."""
    for table, count in shown.items():
        if connection.execute(select(func.count()).select_from(table)).scalar_one() == count:
            continue
        same = [audit_log.c.seq == table.c.seq]
        if table is requests:
            same.append(audit_log.c.request_id == table.c.request_id)
        if table is executions:
            same.append(audit_log.c.task_uid == table.c.task_uid)
        if table is decisions:
            same.append(audit_log.c.kind == "decision")
        query = (
            select(table).where(~select(audit_log.c.seq).where(and_(*same)).exists()).limit(_MOST_FINDINGS)
        )
        for row in connection.execute(query):
            key = "/".join(str(part) for part in _SHOWN[table](row))
            message = f"{table.name} has a row {key} that no record speaks of; it claims record {row.seq}"
            yield Finding(row.seq, "forged", message)
