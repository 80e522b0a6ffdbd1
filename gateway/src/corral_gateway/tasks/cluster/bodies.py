"""Whole tasks, packed, as many as there is room for; what has no room is read again when it is wanted."""

import json
import zlib
from collections import OrderedDict

from corral.cluster.port import Json

#: Of packed bytes: some ten thousand tasks with small results, or a hundred with the largest.
_MOST_BYTES = 48 << 20


class Bodies:
    """The tasks that were looked at or changed last."""

    def __init__(self, most_bytes: int = _MOST_BYTES) -> None:
        self._most = most_bytes
        self._bytes = 0
        self._packed: OrderedDict[str, bytes] = OrderedDict()

    def put(self, body: Json) -> None:
        """Keep a task as it stands now."""
        uid = body["metadata"]["uid"]
        self.drop(uid)
        packed = zlib.compress(json.dumps(body, separators=(",", ":")).encode(), level=1)
        self._packed[uid] = packed
        self._bytes += len(packed)
        while self._bytes > self._most and len(self._packed) > 1:
            _, oldest = self._packed.popitem(last=False)
            self._bytes -= len(oldest)

    def get(self, uid: str) -> Json | None:
        """Return a task, None if it is not kept."""
        packed = self._packed.get(uid)
        if packed is None:
            return None
        self._packed.move_to_end(uid)
        body: Json = json.loads(zlib.decompress(packed))
        return body

    def drop(self, uid: str) -> None:
        """Forget a task."""
        packed = self._packed.pop(uid, None)
        if packed is not None:
            self._bytes -= len(packed)
