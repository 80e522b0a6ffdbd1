"""An export: everything that filters leave, a line each, some at a time."""

import json
from collections.abc import AsyncIterator
from typing import Literal

from corral_gateway.audit.ocsf import event_of
from corral_gateway.audit.reading import AuditFilter, each, heads
from corral_gateway.storage.database import Database

Form = Literal["jsonl", "ocsf"]


async def lines_of(database: Database, wanted: AuditFilter, form: Form) -> AsyncIterator[str]:
    """Yield many lines at a time, oldest first, up to where the log ends now.

    ``jsonl`` ends with the heads that were signed and are no further than its last record.
    """
    last = 0
    async for some in each(database, wanted):
        last = some[-1].seq
        if form == "ocsf":
            yield "".join(json.dumps(event_of(one)) + "\n" for one in some)
        else:
            yield "".join(one.exported() for one in some)
    if form == "jsonl":
        signed = [head.line() for head in await heads(database) if head.seq <= last]
        if signed:
            yield "".join(signed)
