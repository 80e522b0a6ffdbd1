"""Text that strangers wrote, made fit for a terminal and for tables. Pure."""

import re
from codecs import getincrementaldecoder

# What a terminal obeys: the C0 and C1 controls (ECMA-48) but newline and tab, and DEL. Also the characters
# that reorder what follows (Unicode TR 9; "Trojan Source", CVE-2021-42574): a line then deceives.
_REORDERING = (*range(0x202A, 0x202F), *range(0x2066, 0x206A))
_VISIBLE = {
    **{code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\n\t"},
    0x7F: "\u2421",
    **{code: f"\\x{code:02x}" for code in range(0x80, 0xA0)},
    **{code: f"\\u{code:04x}" for code in _REORDERING},
}
_OBEYED = re.compile("[" + "".join(re.escape(chr(code)) for code in _VISIBLE) + "]")


def visible(text: str) -> str:
    """Return the text with every control character but newline and tab shown instead of obeyed.

    A carriage return becomes a line end: a progress bar then prints lines, and no line can be written over.
    """
    return text.replace("\r\n", "\n").replace("\r", "\n").translate(_VISIBLE)


def one_line(text: str, width: int) -> str:
    """Return the text as one line of at most so many characters, fit for a table's cell."""
    # Far more than fits is not looked at: a result may have a megabyte.
    line = visible(" ".join(text[: 4 * width + 200].split()))
    return line if len(line) <= width else f"{line[: width - 1]}…"


def escaped(document: str) -> str:
    r"""Return a JSON or YAML document with what a terminal would obey written as ``\uXXXX``.

    Right where such characters stand in double quotes only, as the two writers of ``documents`` see to.
    """
    return _OBEYED.sub(lambda match: f"\\u{ord(match[0]):04x}", document)


def is_obeyed(text: str) -> bool:
    """Whether a terminal would do something else than show the text."""
    return _OBEYED.search(text) is not None


class VisibleStream:
    """``visible`` for a stream of bytes that comes in pieces, cut anywhere."""

    def __init__(self) -> None:
        self._decoder = getincrementaldecoder("utf-8")("replace")
        self._after_return = False

    def feed(self, data: bytes) -> str:
        """Return what can be shown after this piece."""
        text = self._decoder.decode(data)
        if not text:
            return ""
        if self._after_return:
            # The line ended at the return already.
            text = text.removeprefix("\n")
        self._after_return = text.endswith("\r")
        return visible(text)

    def end(self) -> str:
        """Return what is left at the end: a character that was cut."""
        return visible(self._decoder.decode(b"", final=True))
