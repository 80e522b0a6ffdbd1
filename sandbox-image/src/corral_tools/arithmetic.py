"""Arithmetic as people write it, evaluated without executing anything.

The grammar, loosest first; its operators bind and round as Python's do::

    expression := sum { ("<" | "<=" | ">" | ">=" | "==" | "!=") sum }      compared from left to right, as a chain
    sum        := product { ("+" | "-") product }
    product    := signed { ("*" | "/" | "//" | "%") signed }
    signed     := ("+" | "-") signed | power
    power      := atom [ "**" signed ]
    atom       := NUMBER | NAME | NAME "(" [ argument { "," argument } ] ")" | "(" expression ")"
    argument   := expression | "[" [ expression { "," expression } ] "]"

Integers are exact; the quotient of two integers is one where the division comes out even, else a float. Floats are
IEEE 754 doubles, always finite: what would be infinite, complex or undefined is an error. The parser evaluates as
it reads (operator precedence by binding power, as in Pratt, "Top Down Operator Precedence", 1973), so a long sum
needs no deep recursion.
"""

import operator

from corral_runner.interface import InvalidArgument, ToolFailure
from corral_tools import arithmetic_functions, arithmetic_tokens
from corral_tools.arithmetic_functions import MAX_BITS, MAX_DIGITS
from corral_tools.arithmetic_tokens import END, NAME, NUMBER, Token

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    Number: TypeAlias = int | float

#: Nested deeper than this, nobody reads it, and the interpreter's own stack is not far.
_MAX_DEPTH = 100
_SIGN_POWER = 30
_COMPARISONS: "dict[str, Callable[[Number, Number], bool]]" = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
