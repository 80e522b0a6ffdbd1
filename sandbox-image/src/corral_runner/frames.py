"""The numbered frames that tell what happens in a sandbox, kept so that a reader can ask again."""

import time

from corral_runner.jsonlines import encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: A frame's payload stays well below the line limit even when every byte becomes six characters.
CHUNK_BYTES = 128 * 1024


class FrameBuffer:
    """All frames since the runner started, encoded once.

    It needs no eviction: output, result and returned files are each bounded by a limit of the execution, and
    progress is paced by the runner.
    """

    __slots__ = ("_epoch", "execution", "lines")

    def __init__(self) -> None:
        self._epoch = time.monotonic()
        #: Id of the execution that frames belong to from now on.
        self.execution: str | None = None
        self.lines: list[bytes] = []

    def append(self, kind: str, **fields: "Any") -> None:
        frame = {"seq": len(self.lines), "t": round(time.monotonic() - self._epoch, 6), "type": kind}
        if self.execution is not None:
            frame["execution"] = self.execution
        frame.update(fields)
        self.lines.append(encode(frame))


class TextChunks:
    """Splits a byte stream into JSON-able pieces that never cut a UTF-8 sequence in two."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> "dict[str, str]":
        """Return ``{"data": text}``, or ``{"base64": …}`` where the bytes are not UTF-8; {} to wait for more."""
        data = self._rest + data
        self._rest = b""
        try:
            return {"data": data.decode()}
        except UnicodeDecodeError as error:
            cut_short = (
                error.end == len(data) and len(data) - error.start < 4 and "end of data" in error.reason
            )
            if not cut_short:
                return as_base64(data)
            data, self._rest = data[: error.start], data[error.start :]
            return {"data": data.decode()} if data else {}

    def flush(self) -> "dict[str, str]":
        """Return what an unfinished sequence at the very end has left, or {}."""
        data, self._rest = self._rest, b""
        return as_base64(data) if data else {}


def as_base64(data: bytes) -> "dict[str, str]":
    import binascii

    return {"base64": binascii.b2a_base64(data, newline=False).decode("ascii")}
