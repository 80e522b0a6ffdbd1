"""calculator: exact, bounded, and never more than arithmetic."""

import math
import operator
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral_runner.interface import InvalidArgument, ToolContext, ToolFailure
from corral_tools import arithmetic, arithmetic_functions, calculator

CONTEXT = ToolContext("/")


def calculate(expression: str) -> Any:
    return calculator.run({"expression": expression}, CONTEXT)


def test_the_sum_of_the_agent_core_document_is_an_exact_integer() -> None:
    result = calculate("42 + 58")
    assert (result, type(result)) == (100, int)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("1 + 2 * 3", 7),
        ("(1 + 2) * 3", 9),
        ("2 ** 3 ** 2", 512),
        ("-2 ** 2", -4),
        ("2 ** -1", 0.5),
        ("- -+3", 3),
        ("7 // 2", 3),
        ("-7 // 2", -4),
        ("-7 % 3", 2),
        ("7.5 % 2", 1.5),
        ("10 / 4", 2.5),
        ("10 / 5", 2),
        ("0.1 + 0.2", 0.1 + 0.2),
        ("1_000_000 + 0x1f + 0b11 + 0o17", 1_000_049),
        (".5 + 1. + 1e3 + 1E-3", 0.5 + 1.0 + 1000.0 + 0.001),
        ("007", 7),
        ("7 \u00d7 6 \u00f7 2 \u2212 1", 20),
        ("\t1\n+\u00a02 ", 3),
        ("1 < 2", True),
        ("1 < 2 < 2", False),
        ("3 >= 3 == 3 != 4", True),
        ("(1 < 2) + 1", 2),
        ("2 ≤ 3", True),
        ("pi", math.pi),
        ("2 * tau - e", 2 * math.tau - math.e),
        ("sqrt(16)", 4),
        ("sqrt(2)", math.sqrt(2)),
        ("sqrt(10 ** 40)", "100000000000000000000"),
        ("cbrt(-27)", -3),
        ("round(2.5)", 2),
        ("round(2.345, 2)", round(2.345, 2)),
        ("round(1234, -2)", 1200),
        ("abs(-3) + floor(-2.5) + ceil(2.1) + trunc(-2.9)", 1),
        ("min(3, 1, 2) + max([3, 1, 2])", 4),
        ("sum(1, 2, 3)", 6),
        ("sum([0.1] )", 0.1),
        ("sum([1, 2], 3, [4])", 10),
        ("mean(1, 2)", 1.5),
        ("mean([1, 3])", 2),
        ("median(5, 1, 3)", 3),
        ("median(1, 2, 3, 4)", 2.5),
        ("stdev(2, 4, 4, 4, 5, 5, 7, 9)", math.sqrt(32 / 7)),
        ("variance(1, 2, 3)", 1.0),
        ("factorial(20)", 2432902008176640000),
        ("comb(5, 2) + perm(5, 2)", 30),
        ("comb(2, 5)", 0),
        ("gcd(12, 18) + lcm(4, 6)", 18),
        ("log(8, 2)", 3.0),
        ("ln(e)", 1.0),
        ("log10(1000) + log2(8)", 6.0),
        ("sin(0) + cos(0) + tan(0) + degrees(pi) + radians(180)", 1 + 180 + math.pi),
        ("atan2(1, 1) * 4", math.pi),
        ("hypot(3, 4)", 5.0),
        ("pow(2, 10)", 1024),
        ("exp(0) + sinh(0) + cosh(0) + tanh(0) + asin(0) + acos(1) + atan(0)", 2.0),
        ("2 ** 63 - 1", 2**63 - 1),
        ("-2 ** 63", -(2**63)),
    ],
)
def test_an_expression_has_its_value(expression: str, expected: Any) -> None:
    result = calculate(expression)
    assert (result, type(result)) == (expected, type(expected))


@pytest.mark.parametrize("expression", ["2 ** 63", "-2 ** 63 - 1", "2 ** 100", "10 ** 4299"])
def test_an_integer_beyond_64_bits_is_given_as_text_with_all_its_digits(expression: str) -> None:
    assert calculate(expression) == str(arithmetic.evaluate(expression))


@pytest.mark.parametrize(
    ("expression", "character", "why"),
    [
        ("", 1, "ends"),
        ("   ", 4, "ends"),
        ("2 +", 4, "ends"),
        ("2 + * 3", 5, "unexpected '*'"),
        ("(1 + 2", 7, "the '(' at character 1"),
        ("1 + 2)", 6, "unexpected ')'"),
        ("()", 2, "unexpected ')'"),
        ("1 2", 3, "operator missing"),
        ("1,000", 2, "1_000"),
        ("2 ^ 3", 3, "'**'"),
        ("x = 3", 3, "'=='"),
        ("5!", 2, "factorial"),
        ("$5", 1, "number alone"),
        ("1 & 2", 3, "logical"),
        ("foo + 1", 1, "unknown name 'foo'"),
        ("1 + nope(2)", 5, "known are pi"),
        ("sqrt", 1, "is a function"),
        ("pi(2)", 1, "unknown name 'pi'"),
        ("sqrt(1, 2)", 1, "takes 1 value, not 2"),
        ("atan2(1)", 1, "takes 2 values, not 1"),
        ("1 + max()", 5, "takes 1 or more"),
        ("log(1, 2, 3)", 1, "takes 1 to 2"),
        ("stdev(1)", 1, "takes 2 or more"),
        ("sum(1 2)", 7, "','"),
        ("sum([1, 2)", 10, "',' or the closing bracket"),
        ("sum([1, 2]", 11, "the '(' of 'sum'"),
        ("[1, 2]", 1, "unexpected '['"),
        ("sqrt([4])", 6, "unexpected '['"),
        ("1 + 12abc", 5, "'12abc'"),
        ("1..2", 1, "not a number"),
        ("0x", 1, "not a number"),
        ("1__0", 1, "not a number"),
        ("1e", 1, "not a number"),
        ("1e400", 1, "larger than any number"),
        ("9" * 5000, 1, "not a number"),
        ("import os", 1, "unknown name 'import'"),
        ("__import__('os')", 12, "means nothing"),
        ("().__class__", 3, "means nothing"),
        ("1 if 1 else 2", 3, "operator missing"),
        ("inf", 1, "unknown"),
        ("1\0", 2, "means nothing"),
        ("\ud800", 1, "means nothing"),
        ("٣", 1, "means nothing"),
        ("-" * 200 + "1", 101, "nested more than 100 deep"),
        ("(" * 200 + "1" + ")" * 200, 101, "nested more than 100 deep"),
        ("2" + "**2" * 200, 301, "nested more than 100 deep"),
    ],
)
def test_a_mistake_is_refused_with_its_place(expression: str, character: int, why: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        calculate(expression)
    assert caught.value.field == "expression"
    assert f"at character {character}" in caught.value.message
    assert why in caught.value.message


@pytest.mark.parametrize(
    ("expression", "character", "why"),
    [
        ("1 / 0", 3, "division by zero"),
        ("1 // 0", 3, "division by zero"),
        ("1 % 0.0", 3, "division by zero"),
        ("0 ** -1", 3, "division by zero"),
        ("log(8, 1)", 1, "division by zero"),
        ("1 + sqrt(-1)", 5, "no real square root"),
        ("log(0)", 1, "logarithm"),
        ("(-8) ** 0.5", 6, "not a real number"),
        ("asin(2)", 1, ""),
        ("factorial(-1)", 1, "integers from 0"),
        ("factorial(1.5)", 1, "takes integers"),
        ("gcd(1.5, 3)", 1, "takes integers"),
        ("round(1, 0.5)", 1, "takes integers"),
        ("round(10, -99999999)", 1, "4300 places"),
        ("1e308 * 10", 7, "too large"),
        ("1e308 + 1e308", 7, "too large"),
        ("exp(1000)", 1, "too large"),
        ("2 ** 1e5", 3, "too large"),
        ("10 ** 400 / 3", 11, "too large"),
        ("10 ** 400 * 0.5", 11, "too large"),
        ("9 ** 9 ** 9", 3, "65536 bits"),
        ("9 ** 9 ** 9 ** 9 ** 9", 13, "65536 bits"),
        ("(-3) ** 99999999999", 6, "65536 bits"),
        ("pow(7, 10 ** 15)", 1, "65536 bits"),
        ("2 ** 65000 * 2 ** 65000", 12, "65536 bits"),
        ("factorial(10 ** 9)", 1, "65536 bits"),
        ("perm(10 ** 9, 10 ** 8)", 1, "65536 bits"),
        ("comb(10 ** 9, 5 * 10 ** 8)", 1, "65536 bits"),
    ],
)
def test_what_has_no_value_fails_with_its_place(expression: str, character: int, why: str) -> None:
    with pytest.raises(ToolFailure) as caught:
        calculate(expression)
    assert f"at character {character}" in caught.value.message
    assert why in caught.value.message
    assert caught.value.details == {"position": character}


def test_a_result_too_long_to_be_written_fails_with_a_remedy() -> None:
    with pytest.raises(ToolFailure, match=r"about 6021 digits.*log10"):
        calculate("2 ** 20000")
    assert calculate("log10(2 ** 20000)") == pytest.approx(6020.6)


def test_an_expression_that_is_too_long_is_refused() -> None:
    assert calculate("1" + "+1" * 4999) == 5000
    with pytest.raises(InvalidArgument, match="at most 10000"):
        calculate("1" + "+1" * 5000)


def test_every_function_works_and_none_leaks_another_exception() -> None:
    for name, (_function, least, most) in arithmetic_functions.FUNCTIONS.items():
        for value in ("0", "1", "-1", "2.5", "1e308", "10**300", "-0.0"):
            for count in {least, most or 3}:
                try:
                    result = arithmetic.evaluate(f"{name}({', '.join([value] * count)})")
                except ToolFailure:
                    continue
                assert isinstance(result, int) or math.isfinite(result)


def _divided(a: Any, b: Any) -> Any:
    return a // b if isinstance(a, int) and isinstance(b, int) and a % b == 0 else a / b


OPERATORS: dict[str, tuple[int, Callable[[Any, Any], Any]]] = {
    "+": (1, operator.add),
    "-": (1, operator.sub),
    "*": (2, operator.mul),
    "/": (2, _divided),
    "//": (2, operator.floordiv),
    "%": (2, operator.mod),
    "**": (4, operator.pow),
}


class Unusable(Exception):  # noqa: N818 - says what the tree is
    """A tree whose value the calculator refuses to compute."""


def value_of(tree: Any) -> Any:
    """What Python's own arithmetic makes of a tree."""
    if not isinstance(tree, tuple):
        return tree
    if len(tree) == 2:
        return -value_of(tree[1])
    name, left, right = tree
    a, b = value_of(left), value_of(right)
    if name == "**" and isinstance(a, int) and isinstance(b, int) and b > 200:
        raise Unusable
    result = OPERATORS[name][1](a, b)
    if isinstance(result, complex) or (isinstance(result, float) and not math.isfinite(result)):
        raise Unusable
    if isinstance(result, int) and result.bit_length() > 10_000:
        raise Unusable
    return result


def written(tree: Any, tightness: int = 0) -> str:
    """A tree with no parentheses but those it needs, so that precedence is put to the test."""
    if not isinstance(tree, tuple):
        return repr(tree)
    if len(tree) == 2:
        text, own = f"-{written(tree[1], 3)}", 3
    else:
        name, left, right = tree
        own = OPERATORS[name][0]
        if name == "**":
            text = f"{written(left, 5)} ** {written(right, 3)}"
        else:
            text = f"{written(left, own)}{name}{written(right, own + 1)}"
    return f"({text})" if own < tightness else text


NUMBERS = st.one_of(
    st.integers(0, 12),
    st.integers(0, 10**25),
    st.floats(0, 1e6, allow_nan=False).map(abs),
)
TREES = st.recursive(
    NUMBERS,
    lambda inner: st.one_of(
        st.tuples(st.just("-"), inner), st.tuples(st.sampled_from([*OPERATORS]), inner, inner)
    ),
    max_leaves=12,
)


@given(TREES)
def test_the_value_is_that_of_pythons_own_arithmetic(tree: Any) -> None:
    try:
        expected = value_of(tree)
    except (Unusable, ArithmeticError):
        return
    result = arithmetic.evaluate(written(tree))
    assert (result, type(result)) == (expected, type(expected))


@given(
    st.lists(
        st.sampled_from([*"0123456789.eE_+-*/%()[],<>=! ", "**", "//", "sqrt(", "sum(", "pi"]), max_size=30
    )
)
def test_whatever_is_written_only_the_two_errors_come_out(pieces: list[str]) -> None:
    try:
        result = arithmetic.evaluate("".join(pieces))
    except (InvalidArgument, ToolFailure):
        return
    assert isinstance(result, int) or math.isfinite(result)


@given(st.text(max_size=40))
def test_no_text_does_anything_else(text: str) -> None:
    try:
        calculate(text)
    except (InvalidArgument, ToolFailure):
        return


@given(
    st.lists(st.integers(-20, 20), min_size=2, max_size=6),
    st.lists(st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), min_size=6, max_size=6),
)
def test_chains_of_comparisons_are_pythons(values: list[int], names: list[str]) -> None:
    text = str(values[0]) + "".join(
        f" {name} {value}" for name, value in zip(names, values[1:], strict=False)
    )
    assert arithmetic.evaluate(text) is eval(text)
