"""How much a tool may say.

A result travels in one line of the runner's protocol, which ends at 1 MiB (docs/runner-protocol.md). A tool
therefore cuts what it returns well below, and says so in a field called ``truncated``.
"""

import codecs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral_runner.interface import ToolContext

#: JSON spends up to six bytes on one byte of text (``\u0001``); so much text fits a line whatever it holds.
TEXT_BYTES = 160 * 1024


def text_budget_bytes(context: "ToolContext") -> int:
    """How many bytes of text one result may carry: half of the output limit, never too much for a line."""
    return max(1, min(TEXT_BYTES, context.output_limit_bytes // 2))


def clip(text: str, limit_bytes: int) -> tuple[str, bool]:
    """A text cut to so many bytes of UTF-8, and whether anything was cut. Lone surrogates become ``?``."""
    if len(text) <= limit_bytes and text.isascii():
        return text, False
    data = text.encode("utf-8", "replace")
    # Not final: a character that the cut split is left out (codecs.utf_8_decode).
    return codecs.utf_8_decode(data[:limit_bytes], "strict", False)[0], len(data) > limit_bytes
