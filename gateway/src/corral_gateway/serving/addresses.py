"""Whose a connection is, as far as its address says, and how many each of them has open. Bounded by what is open."""

import ipaddress
from collections import Counter

from uvicorn.middleware.proxy_headers import _TrustedHosts

#: One customer has a network of so many bits of IPv6.
_IPV6_BITS = 64


def network_of(source: str) -> str:
    """Return what stands for everybody who may have an address: itself, of IPv6 its network.

    An IPv4 address that a socket of both kinds writes as IPv6 (``::ffff:192.0.2.1``) is the IPv4 address.
    """
    if ":" not in source:
        return source
    try:
        address = ipaddress.IPv6Address(source.partition("%")[0])
    except ValueError:
        return source
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, _IPV6_BITS), strict=False))


def is_loopback(host: str) -> bool:
    """Whether what is sent to a host stays on this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Addresses:
    """The open connections of one server. Of one event loop."""

    def __init__(self, most_each: int) -> None:
        self._most_each = most_each
        self._open: Counter[str] = Counter()
        self._proxies: dict[str, _TrustedHosts] = {}

    def enter(self, host: str, proxies: list[str] | str) -> str | None:
        """Count a connection.

        Args:
            host: the peer's address.
            proxies: whose ``X-Forwarded-For`` is believed, as uvicorn takes it. Behind them is everybody, so they are
                not counted.

        Returns:
            What to ``leave`` with when it ends; empty: it is not counted. None: it is one too many.
        """
        # Asked as uvicorn itself asks it, so that who is believed and who is not counted are the same.
        text = proxies if isinstance(proxies, str) else ",".join(proxies)
        trusted = self._proxies.get(text)
        if trusted is None:
            trusted = self._proxies[text] = _TrustedHosts(proxies)
        if not host or host in trusted:
            return ""
        name = network_of(host)
        if self._open[name] >= self._most_each:
            return None
        self._open[name] += 1
        return name

    def leave(self, name: str) -> None:
        """Count a connection no more."""
        self._open[name] -= 1
        if not self._open[name]:
            del self._open[name]
