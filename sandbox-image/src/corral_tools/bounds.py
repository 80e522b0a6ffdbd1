"""How much a tool may say.

The runner refuses a result of more than 256 KiB of JSON unless told otherwise (``resultBytes``), and a line
of its protocol ends at 1 MiB (docs/runner-protocol.md). A tool therefore cuts what it returns well below, and
says so in a field called ``truncated``.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral_runner.interface import ToolContext

try:
    # As in corral_runner.jsonlines: `json` costs 9 ms, its C core nothing.
    from _json import encode_basestring_ascii
except ImportError:  # another Python than CPython
    from json.encoder import encode_basestring_ascii

#: The variable part of a result, encoded; 56 KiB are left for what is around it.
RESULT_BYTES = 200 * 1024


def budget_bytes(context: "ToolContext") -> int:
    """How many bytes of JSON the variable part of a result may take."""
    return max(1, min(RESULT_BYTES, context.output_limit_bytes // 2))


def encoded_bytes(text: str) -> int:
    """What a text takes as JSON: two bytes for a newline, up to twelve for one character outside ASCII."""
    return len(encode_basestring_ascii(text))


def clip(text: str, limit_bytes: int) -> tuple[str, bool]:
    """The longest start of a text that takes at most so many bytes as JSON, and whether anything was cut."""
    start = text[:limit_bytes]
    if encoded_bytes(start) - 2 <= limit_bytes:
        return start, len(start) < len(text)
    fits, fits_not = 0, len(start)
    while fits_not - fits > 1:
        middle = (fits + fits_not) // 2
        if encoded_bytes(start[:middle]) - 2 <= limit_bytes:
            fits = middle
        else:
            fits_not = middle
    return start[:fits], True
