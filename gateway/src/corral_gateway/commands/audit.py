"""``corral audit``: the log of the gateway here."""

import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from corral.cli.audit_options import (
    Caller,
    Form,
    Kind,
    Limit,
    Reason,
    Request,
    Since,
    Task,
    Tool,
    Until,
)
from corral.cli.formats import Format
from corral.cli.options import Output
from corral_gateway.commands.place import bad_input, open_database, read_settings

if TYPE_CHECKING:
    from corral_gateway.audit.chain import Head
    from corral_gateway.audit.log import Stored
    from corral_gateway.audit.reading import AuditFilter
    from corral_gateway.audit.store import DatabaseStore
    from corral_gateway.audit.verification import Verdict
    from corral_gateway.settings import Settings
    from corral_gateway.storage.database import Database

audit_app = typer.Typer(
    no_args_is_help=True, help="List, export and verify what the gateway here has recorded."
)

#: As of a program that found what it looks for, and wishes it had not.
_FOUND_WRONG = 1

_Key = Annotated[
    list[Path] | None,
    typer.Option("--key", exists=True, help="Believe this key as well: the file, or its public part in one."),
]


@audit_app.command("list")
def list_records(
    *,
    caller: Caller = None,
    kind: Kind = None,
    tool: Tool = None,
    reason: Reason = None,
    since: Since = None,
    until: Until = None,
    request: Request = None,
    task: Task = None,
    limit: Limit = 20,
    output: Output = Format.TABLE,
) -> None:
    """List records, newest first."""
    from corral.cli.audit_records import show_records
    from corral.cli.terminal import Terminal

    wanted = _filter(
        caller=caller,
        kind=kind,
        tool=tool,
        reason=reason,
        since=since,
        until=until,
        request_id=request,
        task=task,
    )

    async def read() -> "list[Stored]":
        from corral_gateway.audit.reading import page

        async with open_database(read_settings(), new=False) as database:
            return await page(database, wanted, limit, None)

    show_records([one.said for one in asyncio.run(read())], Terminal(), output)


@audit_app.command("export")
def export(
    *,
    caller: Caller = None,
    kind: Kind = None,
    tool: Tool = None,
    reason: Reason = None,
    since: Since = None,
    until: Until = None,
    request: Request = None,
    task: Task = None,
    form: Form = "jsonl",
) -> None:
    """Write records to standard output, a line of JSON each, oldest first, then the signed heads."""
    if form not in {"jsonl", "ocsf"}:
        raise bad_input(f"--format: {form!r} is none", "jsonl or ocsf")
    shape: Literal["jsonl", "ocsf"] = "ocsf" if form == "ocsf" else "jsonl"
    wanted = _filter(
        caller=caller,
        kind=kind,
        tool=tool,
        reason=reason,
        since=since,
        until=until,
        request_id=request,
        task=task,
    )

    async def write() -> None:
        from corral_gateway.audit.exporting import lines_of

        async with open_database(read_settings(), new=False) as database:
            async for lines in lines_of(database, wanted, shape):
                sys.stdout.write(lines)

    asyncio.run(write())


@audit_app.command("verify")
def verify(
    *,
    head: Annotated[
        list[str] | None, typer.Option("--head", help="SEQ:HASH, kept elsewhere; the log must agree with it.")
    ] = None,
    key: _Key = None,
    file: Annotated[
        Path | None, typer.Option("--file", exists=True, dir_okay=False, help="Check this export instead.")
    ] = None,
    filtered: Annotated[
        bool, typer.Option("--filtered", help="Records were left out of the export on purpose.")
    ] = False,
) -> None:
    """Check that nothing recorded was changed, taken out or cut off, and that the tables agree. Status 1: it was."""
    anchors = [_anchor(one) for one in head or ()]
    keys = frozenset(_public_key(path) for path in key or ())
    if file is None:
        verdict = asyncio.run(_verify_database(read_settings(), keys, anchors))
    else:
        from corral_gateway.audit.exports import verify_lines

        with file.open("rb") as lines:
            verdict = verify_lines(lines, keys | _own_key(read_settings()), anchors, filtered=filtered)
    for finding in verdict.findings:
        typer.echo(str(finding))
    if verdict.more_findings:
        typer.echo(f"and {verdict.more_findings} more")
    for note in verdict.notes:
        typer.echo(f"note: {note}", err=True)
    said = (
        f"{verdict.records} records, {verdict.first} to {verdict.end.seq}; {verdict.heads} signed heads agree"
    )
    if not verdict.holds:
        typer.echo(f"the audit does not hold: {said}")
        raise typer.Exit(_FOUND_WRONG)
    typer.echo(f"the audit holds: {said}")
    typer.echo(f"head {verdict.end.seq}:{verdict.end.hash}")


@audit_app.command("prune")
def prune(
    days: Annotated[
        int, typer.Option("--days", min=1, max=36500, help="Remove what is older than so many days.")
    ],
) -> None:
    """Remove old records; a signed head says where the log begins after that."""

    async def remove() -> int:
        from corral_gateway.audit.retention import prune

        settings = read_settings()
        async with open_database(settings, new=False) as database:
            return (await prune(_store(settings, database), days)).records

    typer.echo(f"{asyncio.run(remove())} records removed")


async def _verify_database(settings: "Settings", keys: frozenset[str], anchors: "list[Head]") -> "Verdict":
    from corral_gateway.audit.verification import Evidence, verify

    async with open_database(settings, new=False) as database:
        store = _store(settings, database)
        evidence = Evidence(keys | {store.key.public}, list(store.file.heads()), anchors)
        return await database.snapshot(lambda connection: verify(connection, evidence))


def _store(settings: "Settings", database: "Database") -> "DatabaseStore":
    from corral_gateway.audit.heads import SigningKeyError
    from corral_gateway.audit.trail import store_of

    try:
        return store_of(settings, database)
    except SigningKeyError as error:
        raise bad_input(str(error), "CORRAL_AUDIT_KEY names the file") from None


def _own_key(settings: "Settings") -> frozenset[str]:
    """Return the public part of the key here; nothing where there is none: an export is checked anywhere."""
    from corral_gateway.audit.trail import key_path_of

    path = key_path_of(settings)
    return frozenset({_public_key(path)}) if path.exists() else frozenset()


def _public_key(path: Path) -> str:
    from corral_gateway.audit.heads import SigningKeyError, public_key_of

    try:
        return public_key_of(path)
    except SigningKeyError as error:
        raise bad_input(f"--key: {error}") from None


def _anchor(text: str) -> "Head":
    from corral_gateway.audit.chain import Head

    seq, _, digest = text.partition(":")
    is_hash = len(digest) == 64 and set(digest) <= set("0123456789abcdef")
    if not seq.isdecimal() or not is_hash:
        raise bad_input(
            f"--head: {text!r} is none", "SEQ:HASH, as `corral audit verify` prints it at its end"
        )
    return Head(int(seq), digest)


def _filter(*, kind: str | None, since: str | None, until: str | None, **rest: str | None) -> "AuditFilter":
    from corral_gateway.audit.reading import AuditFilter
    from corral_gateway.audit.records import Kind

    if kind is not None and kind not in set(Kind):
        raise bad_input(f"--kind: {kind!r} is none", ", ".join(Kind))
    return AuditFilter(kind=kind, since=_moment("--since", since), until=_moment("--until", until), **rest)


def _moment(name: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise bad_input(f"{name}: {text!r} is no time", "2026-01-31, or 2026-01-31T12:00:00Z") from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
