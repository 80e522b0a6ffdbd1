"""The operators, functions and constants of arithmetic, bounded where a number could grow without end.

Each takes and gives integers and floats. What has no value raises `ValueError`, `ZeroDivisionError` or
`OverflowError`; the evaluator tells people, and adds the place.
"""

import math

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    Number: TypeAlias = int | float

#: No integer on the way to the result may be longer: products and powers of such take microseconds.
MAX_BITS = 65_536
#: What `int` and JSON readers written in Python take (`sys.set_int_max_str_digits`).
MAX_DIGITS = 4300


def checked(value: object) -> "Number":
    """The value, if it is a number this calculator has: finite, real, not endlessly long."""
    if isinstance(value, int):
        if value.bit_length() > MAX_BITS:
            raise OverflowError
        return value
    if isinstance(value, float):
        if math.isnan(value):
            raise ValueError("the result is not a number")
        if math.isinf(value):
            raise OverflowError
        return value
    raise ValueError("the result is not a real number")


def divide(dividend: "Number", divisor: "Number") -> "Number":
    """An integer where two integers divide evenly, else the nearest float."""
    if isinstance(dividend, int) and isinstance(divisor, int):
        quotient, remainder = divmod(dividend, divisor)
        return dividend / divisor if remainder else quotient
    return dividend / divisor


def power(base: "Number", exponent: "Number") -> object:
    """As ``**``, refused before it would run away."""
    # |base| is at least 2 ** (its bits - 1), so the result has that times the exponent as many bits, or more.
    if isinstance(base, int) and isinstance(exponent, int) and (base.bit_length() - 1) * exponent > MAX_BITS:
        raise OverflowError
    result: object = base**exponent
    return result


def _sqrt(value: "Number") -> "Number":
    if value < 0:
        raise ValueError("a negative number has no real square root")
    if isinstance(value, int):
        root = math.isqrt(value)
        if root * root == value:
            return root
    return math.sqrt(value)


def _cbrt(value: "Number") -> "Number":
    root = math.cbrt(value)
    nearest = round(root)
    # The C library may be off by the last bit even where the root is an integer: cbrt(27).
    return root if nearest**3 != value else nearest if isinstance(value, int) else float(nearest)


def _log(value: "Number", base: "Number | None" = None) -> "Number":
    if value <= 0:
        raise ValueError("only numbers above 0 have a logarithm")
    return math.log(value) if base is None else math.log(value, base)


def _round(value: "Number", digits: "Number" = 0) -> "Number":
    places = _integer(digits)
    if abs(places) > MAX_DIGITS:
        raise ValueError(f"can round to at most {MAX_DIGITS} places")
    return round(value, places) if places else round(value)


def _factorial(value: "Number") -> int:
    return _permutations(value, value)


def _permutations(items: "Number", chosen: "Number") -> int:
    n, k = _counts(items, chosen)
    if k > 1 and k * math.log2(max(n - k / 2, 2)) > MAX_BITS * 2:
        raise OverflowError
    return math.perm(n, k)


def _combinations(items: "Number", chosen: "Number") -> int:
    n, k = _counts(items, chosen)
    k = min(k, n - k)
    # n over k is at least (n / k) ** k.
    if k > 1 and k * math.log2(n / k) > MAX_BITS:
        raise OverflowError
    return math.comb(n, k) if k >= 0 else 0


def _counts(items: "Number", chosen: "Number") -> tuple[int, int]:
    n, k = _integer(items), _integer(chosen)
    if n < 0 or k < 0:
        raise ValueError("takes integers from 0 on")
    return n, k


def _integer(value: "Number") -> int:
    if value != int(value):
        raise ValueError("takes integers")
    return int(value)


def _sum(values: "Sequence[Number]") -> "Number":
    if all(isinstance(value, int) for value in values):
        return sum(values)
    return math.fsum(values)  # exact until the last rounding, whatever the order


def _mean(values: "Sequence[Number]") -> "Number":
    return divide(_sum(values), len(values))


def _median(values: "Sequence[Number]") -> "Number":
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else divide(ordered[middle - 1] + ordered[middle], 2)


def _variance(values: "Sequence[Number]") -> float:
    if len(values) < 2:
        raise ValueError("takes two values or more")
    mean = _mean(values)
    return math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)


def _of_all(function: "Callable[[Sequence[Number]], Number]") -> "Callable[..., Number]":
    return lambda *values: function(values)


def _of_integers(function: "Callable[..., int]") -> "Callable[..., int]":
    return lambda *values: function(*(_integer(value) for value in values))


CONSTANTS: "dict[str, float]" = {"pi": math.pi, "e": math.e, "tau": math.tau}

#: Name: the function, and how many arguments it takes at least and at most (None: any number, lists as well).
FUNCTIONS: "dict[str, tuple[Callable[..., object], int, int | None]]" = {
    "abs": (abs, 1, 1),
    "acos": (math.acos, 1, 1),
    "asin": (math.asin, 1, 1),
    "atan": (math.atan, 1, 1),
    "atan2": (math.atan2, 2, 2),
    "cbrt": (_cbrt, 1, 1),
    "ceil": (math.ceil, 1, 1),
    "comb": (_combinations, 2, 2),
    "cos": (math.cos, 1, 1),
    "cosh": (math.cosh, 1, 1),
    "degrees": (math.degrees, 1, 1),
    "exp": (math.exp, 1, 1),
    "factorial": (_factorial, 1, 1),
    "floor": (math.floor, 1, 1),
    "gcd": (_of_integers(math.gcd), 1, None),
    "hypot": (math.hypot, 1, None),
    "lcm": (_of_integers(math.lcm), 1, None),
    "ln": (_log, 1, 1),
    "log": (_log, 1, 2),
    "log10": (math.log10, 1, 1),
    "log2": (math.log2, 1, 1),
    "max": (_of_all(max), 1, None),
    "mean": (_of_all(_mean), 1, None),
    "median": (_of_all(_median), 1, None),
    "min": (_of_all(min), 1, None),
    "perm": (_permutations, 2, 2),
    "pow": (power, 2, 2),
    "radians": (math.radians, 1, 1),
    "round": (_round, 1, 2),
    "sin": (math.sin, 1, 1),
    "sinh": (math.sinh, 1, 1),
    "sqrt": (_sqrt, 1, 1),
    "stdev": (_of_all(lambda values: math.sqrt(_variance(values))), 2, None),
    "sum": (_of_all(_sum), 1, None),
    "tan": (math.tan, 1, 1),
    "tanh": (math.tanh, 1, 1),
    "trunc": (math.trunc, 1, 1),
    "variance": (_of_all(_variance), 2, None),
}
