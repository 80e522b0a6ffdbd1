"""Where the gateway is, and how to get in."""

import os
import re
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from corral import __version__
from corral.client.gateway.errors import NotInstalledError

if TYPE_CHECKING:
    from types import ModuleType

VARIABLE: Final = "CORRAL_GATEWAY"
KEY_VARIABLE: Final = "CORRAL_API_KEY"

#: To a machine that is there; what answers slowly is another matter.
_CONNECT_SECONDS = 10.0
#: What a header may hold (RFC 9110, 5.5), less what no credential has.
_CREDENTIAL = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class Place:
    """A gateway's URL, and what opens it."""

    url: str
    api_key: str | None = field(repr=False)

    @classmethod
    def of(cls, url: str | None, api_key: str | None) -> "Place":
        """Complete what is given from ``CORRAL_GATEWAY`` and ``CORRAL_API_KEY``.

        Raises:
            ValueError: there is no URL, or one of the two cannot be.
        """
        url = url or os.environ.get(VARIABLE) or ""
        api_key = api_key if api_key is not None else os.environ.get(KEY_VARIABLE) or None
        if not url:
            raise ValueError(f"no gateway is named; give its URL, or set {VARIABLE}")
        if api_key is not None and _CREDENTIAL.fullmatch(api_key) is None:
            raise ValueError(
                "this is no API key or token: it has spaces, line ends or other than ASCII in it"
            )
        return cls(checked_url(url), api_key)

    def options(self, httpx: "ModuleType") -> dict[str, Any]:
        """Return the arguments of an httpx client."""
        headers = {"User-Agent": f"corral/{__version__}", "Accept": "application/json"}
        if self.api_key is not None:
            headers["Authorization"] = f"Bearer {self.api_key}"
        # Loading the certificates of the world takes a while; without TLS none is asked for, and none trusted.
        verify: Any = True if self.url.startswith("https:") else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        return {
            "base_url": self.url,
            "headers": headers,
            "timeout": httpx.Timeout(30.0, connect=_CONNECT_SECONDS),
            "verify": verify,
            "follow_redirects": False,
        }


def checked_url(url: str) -> str:
    """Return a gateway's URL without a slash at its end.

    Raises:
        ValueError: it is none.
    """
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - it raises what is wrong with it
    except ValueError as error:
        raise ValueError(f"{url!r} is no URL of a gateway: {error}") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"{url!r} is no URL of a gateway; write it as in http://127.0.0.1:8000")
    if parts.username is not None or parts.query or parts.fragment or re.search(r"[\s\x00-\x1f\x7f]", url):
        raise ValueError("a gateway's URL has scheme, host, port and path alone; the key goes beside it")
    return url.rstrip("/")


def import_httpx() -> "ModuleType":
    """Return httpx, which only this part of the package needs.

    Raises:
        NotInstalledError: it is not there.
    """
    try:
        import httpx
    except ModuleNotFoundError:
        raise NotInstalledError(
            "the part of Corral that speaks to a gateway is not installed",
            remedy="pip install 'corral[client]'",
        ) from None
    return httpx
