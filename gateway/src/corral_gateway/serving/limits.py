"""What one connection may cost."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Limits of connections, before anything of a request is known. Sizes in bytes."""

    #: Open at once; one more is answered 503 and closed.
    connections: int
    #: A request's head must be there after so long; its body, and a reader of its answer, must get on within it.
    slow_seconds: float
    #: Of one address, or one /64 of IPv6; one more is answered 429 and closed. Those of trusted proxies do not count.
    connections_of_address: int
    #: Request line and header fields together. A token of many claims has some 8 KiB.
    head_bytes: int = 32 << 10
    #: Path and query, as proxies limit them.
    target_bytes: int = 8 << 10
    #: Header fields; browsers and proxies send some thirty.
    fields: int = 100
    #: A body, or a reader, slower than this is taken for an attack; a modem of the last century had four times it.
    bytes_per_second: int = 1 << 10
    #: What still comes after the answer is read and thrown away, so that the client reads the answer; but no more.
    unread_bytes: int = 1 << 20
