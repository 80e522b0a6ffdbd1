"""What is kept of arguments and output: a hash, or the thing itself with its secrets masked. Pure."""

import hashlib
import re
from functools import lru_cache
from typing import Any, Literal

from corral_gateway.audit.chain import canonical
from corral_gateway.logs import without_secrets

Keep = Literal["hash", "keep"]

MASK = "***"
#: So much of one value is kept; the hash beside it is of the whole.
_MOST_CHARACTERS = 4096
_SECRET_NAME = re.compile(
    r"pass(word|wd|phrase)|secret|token|api[-_.]?key|authorization|credential|private[-_.]?key|cookie|\bpwd\b",
    re.IGNORECASE,
)
#: Beyond what the log masks: what is secret in what programs are given. Each is linear to search for.
_SECRET_TEXT = re.compile(
    r"(?<![A-Za-z0-9])(?:AKIA|ASIA)[0-9A-Z]{16}"  # AWS access keys
    r"|gh[pousr]_[A-Za-z0-9]{20,}"  # GitHub tokens
    r"|(?<![A-Za-z0-9])sk-[A-Za-z0-9_-]{16,}"  # keys of model providers
    r"|-----BEGIN [A-Z ]{0,32}PRIVATE KEY-----[^-]{0,16384}"
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def kept(value: Any, keep: Keep) -> dict[str, Any]:
    """Return what the log says of a JSON value: always its hash and size, by policy itself, masked and bounded."""
    text = canonical(value).encode("ascii")
    said: dict[str, Any] = {"sha256": hashlib.sha256(text).hexdigest(), "bytes": len(text)}
    if keep == "keep":
        shown = masked(value)
        if len(text) > _MOST_CHARACTERS:
            said |= {"start": canonical(shown)[:_MOST_CHARACTERS]}
        else:
            said |= {"value": shown}
    return said


def masked(value: Any) -> Any:
    """Return a JSON value without its secrets: fields that are called so, and texts that look so."""
    if isinstance(value, str):
        return _without_secrets(value)
    if isinstance(value, dict):
        return {
            masked(key): MASK if _SECRET_NAME.search(key) and one is not None else masked(one)
            for key, one in value.items()
        }
    if isinstance(value, list | tuple):
        return [masked(one) for one in value]
    return value


@lru_cache(maxsize=2048)
def plain(text: str | None, most: int = 256) -> str:
    """Return a text that came from outside as it may stand in a column: masked, short, without control characters."""
    if not text:
        return ""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", _without_secrets(text[:_MOST_CHARACTERS]))[:most]


def _without_secrets(text: str) -> str:
    return _SECRET_TEXT.sub(MASK, without_secrets(text))
