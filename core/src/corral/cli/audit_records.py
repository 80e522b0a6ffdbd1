"""``corral audit list`` and ``export``: records for people and for programs, wherever they are kept."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from corral.cli.documents import document
from corral.cli.exits import BadInputError
from corral.cli.formats import Format
from corral.cli.gateway import Gateway
from corral.cli.tables import Cell, Column, Row, print_table
from corral.cli.terminal import Terminal


def list_remote(
    gateway: Gateway, wanted: Mapping[str, Any], most: int, terminal: Terminal, style: Format
) -> None:
    """Write the newest records of a gateway; ``wanted`` are the filters of its client's ``audit``."""
    with gateway.client() as client:
        show_records([one.record for one in client.audit(**wanted, most=most)], terminal, style)


def export_remote(gateway: Gateway, wanted: Mapping[str, Any], form: str, terminal: Terminal) -> None:
    """Write an export of a gateway's records as it comes.

    Raises:
        BadInputError: there is no such form.
        UnreachableError: it was cut off; what was written is not whole.
    """
    forms: dict[str, Literal["jsonl", "ocsf"]] = {"jsonl": "jsonl", "ocsf": "ocsf"}
    if form not in forms:
        raise BadInputError(f"--format: {form!r} is none", "jsonl or ocsf")
    with gateway.client() as client:
        for data in client.audit_export(forms[form], **wanted):
            terminal.out.write_bytes(data)


def show_records(records: Iterable[Mapping[str, Any]], terminal: Terminal, style: Format) -> None:
    """Write a line for each record, or all of them as JSON or YAML."""
    found = list(records)
    if style is not Format.TABLE:
        terminal.out.write(document({"items": [dict(one) for one in found]}, style))
    elif found:
        columns = [Column("SEQ"), Column("TIME"), Column("KIND"), Column("CALLER"), Column("REASON")]
        print_table(terminal.out, [*columns, Column("WHAT", flexible=True)], [_row(one) for one in found])
    else:
        terminal.note("no record fits")


def _row(record: Mapping[str, Any]) -> Row:
    kind = str(record.get("kind", ""))
    return (
        str(record.get("seq", "")),
        str(record.get("time", ""))[:23],  # to the millisecond
        kind,
        str(record.get("caller") or ""),
        Cell(str(record.get("reason") or ""), ("yellow",) if _is_refusal(record) else ()),
        _what(kind, record),
    )


def _is_refusal(record: Mapping[str, Any]) -> bool:
    return record.get("kind") == "request.refused" or record.get("allowed") is False


def _what(kind: str, record: Mapping[str, Any]) -> str:
    if kind.startswith("request"):
        words = [record.get("method"), record.get("target"), record.get("code")]
    else:
        tools = record.get("tools")
        tool = ", ".join(map(str, tools)) if isinstance(tools, list) else record.get("tool")
        words = [tool, record.get("taskUid")]
    if kind == "decision":
        words.append("allowed" if record.get("allowed") else f"denied by {record.get('decidedBy')}")
    if "count" in record:
        words.append(f"x{record['count']}")
    return " ".join(str(word) for word in words if word)
