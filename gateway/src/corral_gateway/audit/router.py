"""``GET /v1/audit``."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import AfterValidator, BaseModel, Field

from corral_gateway.audit.exporting import lines_of
from corral_gateway.audit.ocsf import event_of
from corral_gateway.audit.reading import AuditFilter, page
from corral_gateway.audit.records import Kind
from corral_gateway.http_door import allowed
from corral_gateway.identity.caller import Caller
from corral_gateway.identity.roles import Scope
from corral_gateway.services import services_of

router = APIRouter(prefix="/v1/audit", tags=["audit"])

_LINES = "application/x-ndjson"
_Word = Annotated[str | None, Query(max_length=256)]


def _utc(moment: datetime | None) -> datetime | None:
    """Take a time without a zone as UTC, and not as this machine's own."""
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment


_Moment = Annotated[datetime | None, AfterValidator(_utc)]


class AuditRecord(BaseModel):
    """A record, with what chains it to the one before it."""

    hash: str = Field(description="SHA-256 of the bytes of `previous` and the canonical JSON of `record`.")
    previous: str = Field(description="Hash of the record before it.")
    record: dict[str, Any] = Field(description="seq, time, kind, and what happened.")


class AuditList(BaseModel):
    """A page of records, newest first."""

    items: list[AuditRecord | dict[str, Any]] = Field(
        description="Records, or with format=ocsf events of OCSF."
    )
    after: int | None = Field(
        None, description="Give it back as `after` for the next page; absent on the last."
    )


def _filter(
    *,
    caller: Annotated[_Word, Query(description="Only of this caller.")] = None,
    kind: Annotated[Kind | None, Query(description="Only of this kind.")] = None,
    tool: Annotated[_Word, Query(description="Only of this tool.")] = None,
    reason: Annotated[_Word, Query(description="Only with this reason, such as RateLimited.")] = None,
    since: Annotated[_Moment, Query(description="From then on; UTC if no zone is named.")] = None,
    until: Annotated[_Moment, Query(description="Before then.")] = None,
    request_id: Annotated[_Word, Query(description="Only of this request and what it had executed.")] = None,
    task: Annotated[_Word, Query(description="Only of the task with this uid.")] = None,
) -> AuditFilter:
    return AuditFilter(caller, kind, tool, reason, since, until, request_id, task)


@router.get(
    "",
    operation_id="listAuditRecords",
    summary="What happened",
    response_model=AuditList,
    response_model_exclude_none=True,
    responses={200: {"content": {_LINES: {}}}},
)
async def find(
    *,
    _caller: Annotated[Caller, Depends(allowed(Scope.AUDIT_READ))],
    request: Request,
    wanted: Annotated[AuditFilter, Depends(_filter)],
    form: Annotated[
        Literal["json", "jsonl", "ocsf"] | None,
        Query(
            alias="format", description="json: a page. jsonl: all, a line each. ocsf: events of OCSF 1.3.0."
        ),
    ] = None,
    accept: Annotated[str, Header(description="application/x-ndjson: all, a line each.")] = "",
    limit: Annotated[int, Query(ge=1, le=1000, description="So many at most.")] = 100,
    after: Annotated[
        int | None, Query(ge=1, le=2**53, description="What the page before said: `after`.")
    ] = None,
) -> Any:
    """Return records of requests, decisions, executions and of the audit itself, everybody's.

    A page is newest first. `Accept: application/x-ndjson` streams all that the filters leave, oldest first, followed
    by the signed heads: `corral audit verify --file` checks it anywhere.
    """
    database = services_of(request).audit.store.database
    if form == "jsonl" or _LINES in accept:
        lines = lines_of(database, wanted, "ocsf" if form == "ocsf" else "jsonl")
        return StreamingResponse(_encoded(lines), media_type=_LINES, headers={"Cache-Control": "no-store"})
    found = await page(database, wanted, limit + 1, after)
    items = [event_of(one) if form == "ocsf" else json.loads(one.exported()) for one in found[:limit]]
    more = {"after": found[limit - 1].seq} if len(found) > limit else {}
    return {"items": items} | more


async def _encoded(lines: AsyncIterator[str]) -> AsyncIterator[bytes]:
    async for some in lines:
        yield some.encode("utf-8")
