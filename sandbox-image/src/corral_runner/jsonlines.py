"""JSON values, one per line, without importing ``json``.

``import json`` pulls in ``re`` and ``enum``: 9 ms of a cold start of 20. Its C core, ``_json``, is all that is
needed here and imports nothing. Where an interpreter lacks it, ``json`` itself does the work.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: No line is longer, in either direction; larger payloads are sent in pieces.
MAX_LINE_BYTES = 1 << 20


class MalformedLine(ValueError):  # noqa: N818 - names the state of the line
    """A line that is not one JSON value, or is too long."""


try:
    import _json
except ImportError:  # another Python than CPython
    import json

    def encode(value: "Any") -> bytes:
        """One line, newline included."""
        return json.dumps(value, separators=(",", ":")).encode() + b"\n"

    def decode(line: "bytes | bytearray") -> "Any":
        """Read one JSON value.

        Raises:
            MalformedLine: it is none.
        """
        try:
            return json.loads(line)
        except (ValueError, RecursionError) as error:
            raise MalformedLine(str(error)) from None
else:

    class _Context:
        strict = True
        object_hook = None
        object_pairs_hook = None
        parse_float = float
        parse_int = int
        memo: "dict[str, str]" = {}  # noqa: RUF012 - the C scanner wants the attribute, and clears it

        @staticmethod
        def parse_constant(name: str) -> float:
            raise ValueError(f"{name} is not JSON")

    def _refuse(value: object) -> object:
        raise TypeError(f"{type(value).__name__} is not a JSON value")

    _scan = _json.make_scanner(_Context())  # type: ignore[arg-type]

    def _encoder(markers: "dict[int, object]") -> "Any":
        # allow_nan=False: NaN and Infinity are not JSON, and other readers refuse them.
        return _json.make_encoder(
            markers, _refuse, _json.encode_basestring_ascii, None, ":", ",", False, False, False
        )

    def encode(value: "Any") -> bytes:
        """One line, newline included. Text is ASCII-escaped, so lone surrogates survive the way."""
        return "".join(_encoder({})(value, 0)).encode("ascii") + b"\n"

    def decode(line: "bytes | bytearray") -> "Any":
        """Read one JSON value.

        Raises:
            MalformedLine: it is none.
        """
        try:
            text = line.decode().strip()
            value, end = _scan(text, 0)
        except StopIteration:
            raise MalformedLine("no JSON value in it") from None
        except (ValueError, RecursionError) as error:
            raise MalformedLine(str(error)) from None
        except SystemError:
            # The scanner takes its exception from json.decoder, which is not imported (raise_errmsg in _json.c).
            raise MalformedLine("not JSON") from None
        if end != len(text):
            raise MalformedLine(f"more than one JSON value in it, the second from character {end}")
        return value
