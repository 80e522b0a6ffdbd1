"""The options of ``corral audit``, whether a gateway is asked or the log here."""

from typing import Annotated, TypeAlias

import typer

Caller: TypeAlias = Annotated[str | None, typer.Option("--caller", help="Only of this caller.")]
Kind: TypeAlias = Annotated[
    str | None, typer.Option("--kind", help="Only these: request.ended, decision, execution, …")
]
Tool: TypeAlias = Annotated[str | None, typer.Option("--tool", help="Only of this tool.")]
Reason: TypeAlias = Annotated[
    str | None, typer.Option("--reason", help="Only with this reason, such as RateLimited.")
]
Since: TypeAlias = Annotated[
    str | None, typer.Option("--since", help="Only from then on: 2026-01-31, 2026-01-31T12:00Z.")
]
Until: TypeAlias = Annotated[str | None, typer.Option("--until", help="Only before then.")]
Request: TypeAlias = Annotated[
    str | None, typer.Option("--request", help="Only of this request and of what it had executed.")
]
Task: TypeAlias = Annotated[str | None, typer.Option("--task", help="Only of the task with this uid.")]
Limit: TypeAlias = Annotated[int, typer.Option("--limit", min=1, max=10_000, help="So many at most.")]
Form: TypeAlias = Annotated[str, typer.Option("--format", help="jsonl, or ocsf: events of OCSF 1.3.0.")]
