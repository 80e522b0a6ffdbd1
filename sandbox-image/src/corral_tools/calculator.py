"""Calculate an arithmetic expression. Nothing of it is ever executed as code."""

from corral_tools import arithmetic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from corral_runner.interface import ToolContext


def run(arguments: "Mapping[str, Any]", _context: "ToolContext") -> int | float | bool:
    """The value of ``expression``; see `arithmetic` for what it may say."""
    return arithmetic.evaluate(arguments["expression"])
