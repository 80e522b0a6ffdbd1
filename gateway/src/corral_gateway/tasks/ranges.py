"""``Range`` of RFC 9110, as far as downloads that go on need it: one range of bytes. Pure."""

import re
from http import HTTPStatus

from corral_gateway.problems import ProblemError

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII | re.IGNORECASE)


def range_of(header: str | None, size: int) -> tuple[int, int] | None:
    """Return first byte and count of the part that is asked for; None: all of it.

    What is no single range of bytes is as if it was not there, as the RFC allows.

    Raises:
        ProblemError: there is no such part.
    """
    match = None if header is None else _RANGE.fullmatch(header.strip())
    if match is None or not any(match.groups()):
        return None
    first, last = match[1], match[2]
    if not first:  # the last so many bytes
        count = min(int(last), size)
        begin = size - count
    else:
        begin = int(first)
        end = min(size, int(last) + 1) if last else size
        if last and int(last) < begin:
            return None
        count = end - begin
    if begin >= size or count <= 0:
        raise ProblemError(
            HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
            "RangeNotSatisfiable",
            f"the content has {size} bytes",
            headers={"Content-Range": f"bytes */{size}"},
        )
    return begin, count
