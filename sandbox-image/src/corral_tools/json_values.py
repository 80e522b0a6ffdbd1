"""Any Python value as JSON: as it is where JSON can say it, described where it cannot."""

from corral_tools import bounds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral_runner.interface import JSON

#: Beyond this, a value is data that belongs into a file, not into a result.
MAX_BYTES = bounds.RESULT_BYTES
#: Corral takes 64 levels (corral.api.json_values), the result's own place among them.
MAX_DEPTH = 60
#: The API server and most readers keep integers of 64 bits; larger ones they would round.
MIN_INTEGER, MAX_INTEGER = -(2**63), 2**63 - 1
#: Of a value that is only described, so much is shown.
MAX_REPR_CHARACTERS = 10_000


class _NotJSON(Exception):  # noqa: N818 - never leaves this module
    """The value as a whole is to be described: too deep, too large, or in a circle."""


def from_python(value: object, limit_bytes: int = MAX_BYTES) -> "JSON":
    """A JSON value that says what the Python value is.

    ``None``, booleans, finite numbers (integers up to 64 bits), texts, and the lists, tuples and dicts (with
    texts as keys) made of them stay what they are. Anything else, wherever it is, becomes
    ``{"type": NAME, "repr": TEXT}``, and so does a whole that is too large or too deep; ``truncated`` is true
    beside a ``repr`` that was cut.

    Args:
        value: any value.
        limit_bytes: how many bytes of JSON it may become.
    """
    try:
        return _Conversion(limit_bytes).convert(value, MAX_DEPTH)
    except (_NotJSON, RecursionError):
        return describe(value)


def describe(value: object) -> "JSON":
    """The value's type and its bounded `repr`."""
    kind = type(value)
    name = (
        kind.__qualname__
        if kind.__module__ in {"builtins", "__main__"}
        else f"{kind.__module__}.{kind.__qualname__}"
    )
    try:
        text = repr(value)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - a __repr__ may raise anything, and the value still has a type
        text = f"<its repr raised {type(error).__name__}>"
    shown: dict[str, JSON] = {
        "type": name,
        "repr": text[:MAX_REPR_CHARACTERS].encode("utf-8", "replace").decode("utf-8"),
    }
    if len(text) > MAX_REPR_CHARACTERS:
        shown["truncated"] = True
    return shown


class _Conversion:
    """One conversion, with what is left of its budget."""

    def __init__(self, limit_bytes: int) -> None:
        self._left_bytes = limit_bytes

    def convert(self, value: object, depth: int) -> "JSON":
        # Subclasses become what they extend, as with `json`: an IntEnum is a number, a Counter an object.
        if value is None or value is True or value is False:
            self._spend(6)
            return value
        if isinstance(value, (str, int, float)):
            return self._scalar(value)
        if isinstance(value, (list, tuple)):
            return self._array(value, depth)
        if isinstance(value, dict) and all(isinstance(key, str) and _is_unicode(key) for key in value):
            return self._object(value, depth)
        return self._described(value)

    def _scalar(self, value: str | float) -> "JSON":
        if isinstance(value, str):
            return self._text(value)
        return self._integer(value) if isinstance(value, int) else self._float(value)

    def _text(self, value: str) -> "JSON":
        plain = str.__str__(value)
        if not _is_unicode(plain):
            return self._described(value)
        self._spend(bounds.encoded_bytes(plain) + 1)
        return plain

    def _integer(self, value: int) -> "JSON":
        plain = int(value)
        if not MIN_INTEGER <= plain <= MAX_INTEGER:
            return self._described(value)
        self._spend(plain.bit_length() // 3 + 3)  # more than three bits make a digit; a sign, a comma
        return plain

    def _float(self, value: float) -> "JSON":
        plain = float(value)
        if plain - plain != 0:  # infinities and not-a-number; JSON has none of them (RFC 8259, section 6)
            return self._described(value)
        self._spend(len(repr(plain)) + 1)
        return plain

    def _array(self, value: "list[object] | tuple[object, ...]", depth: int) -> "JSON":
        if depth == 0:
            raise _NotJSON
        self._spend(3)
        return [self.convert(item, depth - 1) for item in value]

    def _object(self, value: "dict[str, object]", depth: int) -> "JSON":
        if depth == 0:
            raise _NotJSON
        self._spend(3)
        converted = {}
        for key, item in value.items():
            self._spend(bounds.encoded_bytes(key) + 1)
            converted[str.__str__(key)] = self.convert(item, depth - 1)
        return converted

    def _described(self, value: object) -> "JSON":
        shown = describe(value)
        self._spend(bounds.encoded_bytes(repr(shown)))
        return shown

    def _spend(self, count_bytes: int) -> None:
        self._left_bytes -= count_bytes
        if self._left_bytes < 0:
            raise _NotJSON


def _is_unicode(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # a lone surrogate, which no UTF-8 reader takes
        return False
    return True
