"""B13: the harness itself: no operator is left to itself, where it would go on holding the Lease of later tests."""

from typing import Any, cast

import pytest

from faults.operators import Child, Operators


class _Child:
    def __init__(self) -> None:
        self.stopped = 0

    async def stop(self, _number: int) -> None:
        self.stopped += 1


async def test_B13_an_operator_is_not_started_over_one_of_its_name() -> None:
    operators, first = Operators(), _Child()
    operators.children["a"] = cast("Child", first)
    with pytest.raises(ValueError, match="an operator a runs already"):
        await operators.start("a", 1, {})
    children: dict[str, Any] = dict(operators.children)
    assert children == {"a": first}
    await operators.stop_all()
    assert (first.stopped, operators.children) == (1, {})
