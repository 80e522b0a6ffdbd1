"""Arithmetic as people write it, evaluated without executing anything.

The grammar, loosest first; its operators bind and round as Python's do::

    expression := sum { ("<" | "<=" | ">" | ">=" | "==" | "!=") sum }      a chain, as in 1 < x < 9
    sum        := product { ("+" | "-") product }
    product    := signed { ("*" | "/" | "//" | "%") signed }
    signed     := ("+" | "-") signed | power
    power      := atom [ "**" signed ]
    atom       := NUMBER | NAME | NAME "(" [ argument { "," argument } ] ")" | "(" expression ")"
    argument   := expression | "[" [ expression { "," expression } ] "]"

Integers are exact; the quotient of two integers is one where the division comes out even, else a float.
Floats are IEEE 754 doubles, always finite: what would be infinite, complex or undefined is an error. The
parser evaluates as it reads (operator precedence by binding power, as in Pratt, "Top Down Operator
Precedence", 1973), so a long sum is no deep recursion.
"""

import operator

from corral_runner.interface import InvalidArgument, ToolFailure
from corral_tools import arithmetic_functions as functions
from corral_tools.arithmetic_tokens import END, FIELD, NAME, NUMBER, OPERATOR, at, tokenize

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from corral_tools.arithmetic_tokens import Token

    Number: TypeAlias = int | float

#: Nested deeper than this, nobody reads it, and the interpreter's own stack is not far.
_MAX_DEPTH = 100

#: How tightly an operator binds its operands; a sign binds tighter than a product, looser than a power.
_BINDING = {"+": 10, "-": 10, "*": 20, "/": 20, "//": 20, "%": 20, "**": 40}
_SIGN_BINDING = 30
_BINARY: "dict[str, Callable[[Number, Number], object]]" = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": functions.divide,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": functions.power,
}
_COMPARISONS: "dict[str, Callable[[Number, Number], bool]]" = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}


def evaluate(text: str) -> "Number":
    """The value of an expression; a `bool` where it is a comparison.

    Raises:
        InvalidArgument: it is no expression; the message names the place.
        ToolFailure: it has no value, or none that can be given (``position``: the place, counted from 1).
    """
    reader = _Reader(tokenize(text))
    value = reader.expression()
    kind, unexpected, index = reader.take()
    if kind != END:
        hint = {",": "; thousands are written 1_000", ")": ""}.get(
            str(unexpected), "; is an operator missing?"
        )
        raise InvalidArgument(FIELD, f"unexpected {unexpected!r} {at(index)}{hint}")
    digits = value.bit_length() * 0.30103 if isinstance(value, int) else 0
    if digits > functions.MAX_DIGITS:
        raise ToolFailure(
            f"the result has about {digits:.0f} digits, and only {functions.MAX_DIGITS} can be given; "
            "ask for its log10(), or for a remainder"
        )
    return value


class _Reader:
    """Evaluates while it reads the tokens from left to right."""

    def __init__(self, tokens: "list[Token]") -> None:
        self._tokens = tokens
        self._next = 0
        self._depth = 0

    def take(self) -> "Token":
        token = self._tokens[self._next]
        if token[0] != END:
            self._next += 1
        return token

    def expression(self) -> "Number":
        left = self._operand(0)
        result: bool | None = None
        while (comparison := self._peek()) in _COMPARISONS:
            self.take()
            right = self._operand(0)
            result = _COMPARISONS[comparison](left, right) and result is not False
            left = right
        return left if result is None else result

    def _operand(self, binding: int) -> "Number":
        """A number and every operator after it that binds tighter than the one before it."""
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise InvalidArgument(
                FIELD, f"is nested more than {_MAX_DEPTH} deep {at(self._tokens[self._next][2])}"
            )
        left = self._prefix()
        while (name := self._peek()) in _BINDING and _BINDING[name] > binding:
            index = self.take()[2]
            # A power binds to the right, so its right operand may hold another one.
            right = self._operand(_BINDING[name] - (name == "**"))
            left = _calculate(_BINARY[name], (left, right), f"'{name}'", index)
        self._depth -= 1
        return left

    def _prefix(self) -> "Number":
        kind, value, index = self.take()
        if kind == NUMBER:
            assert not isinstance(value, str)
            return value
        if kind == NAME:
            return self._name(str(value), index)
        if value in {"+", "-"}:
            operand = self._operand(_SIGN_BINDING)
            return -operand if value == "-" else +operand
        if value == "(":
            inner = self.expression()
            self._expect(")", f"the '(' {at(index)}")
            return inner
        if kind == END:
            raise InvalidArgument(FIELD, f"ends {at(index)} where a number is expected")
        raise InvalidArgument(FIELD, f"unexpected {value!r} {at(index)}, where a number is expected")

    def _name(self, name: str, index: int) -> "Number":
        if self._peek() != "(":
            if name in functions.CONSTANTS:
                return functions.CONSTANTS[name]
            if name in functions.FUNCTIONS:
                raise InvalidArgument(FIELD, f"{name!r} {at(index)} is a function; write '{name}(…)'")
            raise InvalidArgument(FIELD, _unknown(name, index))
        if name not in functions.FUNCTIONS:
            raise InvalidArgument(FIELD, _unknown(name, index))
        self.take()
        function, least, most = functions.FUNCTIONS[name]
        values = self._arguments(name, index, lists=most is None)
        if len(values) < least or (most is not None and len(values) > most):
            raise InvalidArgument(
                FIELD, f"{name!r} {at(index)} takes {_count(least, most)}, not {len(values)}"
            )
        return _calculate(function, values, f"{name}()", index)

    def _arguments(self, name: str, index: int, *, lists: bool) -> "tuple[Number, ...]":
        values: list[Number] = []
        while self._peek() != ")":
            if self._peek() == "[" and lists:
                opened = self.take()[2]
                while self._peek() != "]":
                    values.append(self.expression())
                    if self._peek() != "]":
                        self._expect(",", f"the '[' {at(opened)}")
                self.take()
            else:
                values.append(self.expression())
            if self._peek() != ")":
                self._expect(",", f"the '(' of {name!r} {at(index)}")
        self.take()
        return tuple(values)

    def _expect(self, text: str, opened: str) -> None:
        kind, value, index = self.take()
        if value == text and kind == OPERATOR:
            return
        found = "the end" if kind == END else repr(value)
        closing = {")": "')'", ",": "',' or the closing bracket"}[text]
        raise InvalidArgument(FIELD, f"{found} {at(index)}, where {closing} is expected for {opened}")

    def _peek(self) -> str:
        """The operator that comes next, or nothing."""
        kind, value, _ = self._tokens[self._next]
        return str(value) if kind == OPERATOR else ""


def _calculate(
    function: "Callable[..., object]", values: "tuple[Number, ...]", name: str, index: int
) -> "Number":
    try:
        return functions.checked(function(*values))
    except ZeroDivisionError as error:
        raise ToolFailure(f"{name} {at(index)}: division by zero", position=index + 1) from error
    except OverflowError as error:
        limits = f"integers end at {functions.MAX_BITS} bits, other numbers at about 1.8e308"
        raise ToolFailure(
            f"{name} {at(index)}: the result is too large; {limits}", position=index + 1
        ) from error
    except ValueError as error:
        raise ToolFailure(f"{name} {at(index)}: {error}", position=index + 1) from error


def _count(least: int, most: int | None) -> str:
    if most is None:
        return f"{least} or more values"
    if least != most:
        return f"{least} to {most} values"
    return f"{least} value" if least == 1 else f"{least} values"


def _unknown(name: str, index: int) -> str:
    known = ", ".join([*functions.CONSTANTS, *functions.FUNCTIONS])
    return f"unknown name {name!r} {at(index)}; known are {known}"
