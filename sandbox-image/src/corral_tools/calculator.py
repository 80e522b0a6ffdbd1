"""Calculate an arithmetic expression. Nothing of it is ever executed as code."""

from corral_tools import arithmetic, json_values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from corral_runner.interface import ToolContext


def run(arguments: "Mapping[str, Any]", _context: "ToolContext") -> int | float | bool | str:
    """The value of ``expression``; see `arithmetic` for what it may say.

    An integer of more than 64 bits is given as text: as a number, readers of JSON would round it.
    """
    value = arithmetic.evaluate(arguments["expression"])
    if isinstance(value, float) or json_values.MIN_INTEGER <= value <= json_values.MAX_INTEGER:
        return value
    return str(value)
