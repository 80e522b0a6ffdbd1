"""Results that may be used again: of tools that say so, for the same caller and the same call. Pure, time given."""

import hashlib
import json
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from corral.api import AgentTask, Tool, parse_duration
from corral.catalogue import with_defaults

#: What of a spec says nothing about the result.
_BESIDE_THE_POINT = (
    "idempotencyKey",
    "priority",
    "retry",
    "activeDeadlineSeconds",
    "ttlSecondsAfterFinished",
)
#: Of an entry beside its result.
_ENTRY_BYTES = 512


@dataclass(frozen=True, slots=True)
class KeptResult:
    """A result as it was sent."""

    #: JSON.
    output: str
    #: The task that it came of.
    task_uid: str
    kept_at: float
    ttl_seconds: float


def cache_key(caller: str, tool: Tool, task: AgentTask) -> bytes | None:
    """Return what tells calls apart; None: the result of this one is not used again.

    One caller's result is never another's: what a tool makes of its arguments may hold what only one should see. A call
    with secrets is never kept.
    """
    spec = task.spec
    if not tool.spec.idempotent or tool.spec.cache_ttl is None or spec.tool is None or spec.secret_refs:
        return None
    wire = {name: value for name, value in spec.to_wire().items() if name not in _BESIDE_THE_POINT}
    wire |= {"tool": tool.name, "arguments": with_defaults(tool, spec.arguments)}
    # The whole tool: another version, schema, limit or code of it is another tool.
    call = json.dumps([caller, tool.to_wire(), wire], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(call.encode("utf-8", "surrogatepass")).digest()


class ResultCache:
    """Keeps results in memory, the least recently used go first. Of one process."""

    def __init__(self, max_bytes: int) -> None:
        """Keep so many bytes; 0: nothing."""
        self._max_bytes = max_bytes
        self._bytes = 0
        self._kept: OrderedDict[bytes, KeptResult] = OrderedDict()

    @property
    def size_bytes(self) -> int:
        """How much it holds."""
        return self._bytes

    def get(self, key: bytes, now: float) -> KeptResult | None:
        """Return a result that is still good.

        Args:
            key: of the call.
            now: seconds of a clock that does not go back.
        """
        found = self._kept.get(key)
        if found is None:
            return None
        if now >= found.kept_at + found.ttl_seconds:
            self._drop(key)
            return None
        self._kept.move_to_end(key)
        return found

    def put(self, key: bytes, tool: Tool, output: Any, task_uid: str, now: float) -> None:
        """Keep a result for as long as its tool says. One that is too large is not kept."""
        if tool.spec.cache_ttl is None:
            return
        kept = KeptResult(json.dumps(output), task_uid, now, parse_duration(tool.spec.cache_ttl))
        self._drop(key)
        # One result takes no more than an eighth, so that no call empties it.
        if _size(kept) * 8 > self._max_bytes:
            return
        self._kept[key] = kept
        self._bytes += _size(kept)
        while self._bytes > self._max_bytes:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: bytes) -> None:
        gone = self._kept.pop(key, None)
        if gone is not None:
            self._bytes -= _size(gone)


def _size(kept: KeptResult) -> int:
    return len(kept.output) + _ENTRY_BYTES
