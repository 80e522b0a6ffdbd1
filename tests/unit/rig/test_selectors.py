"""Label selectors of the rig's agent."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rig.agent.selectors import matches

LABELS = {"app": "web", "tier": "front"}


def expression(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


@pytest.mark.parametrize(
    ("selector", "selected"),
    [
        ({}, True),
        ({"matchLabels": {"app": "web"}}, True),
        ({"matchLabels": {"app": "web", "tier": "back"}}, False),
        ({"matchLabels": None, "matchExpressions": None}, True),
        (expression("app", "In", "web", "db"), True),
        (expression("zone", "In", "a"), False),
        (expression("app", "NotIn", "web"), False),
        (expression("zone", "NotIn", "a"), True),
        (expression("app", "Exists"), True),
        (expression("zone", "Exists"), False),
        (expression("app", "DoesNotExist"), False),
        (expression("zone", "DoesNotExist"), True),
        ({"matchLabels": {"app": "web"}, **expression("tier", "In", "back")}, False),
    ],
)
def test_selects_as_kubernetes_does(selector: dict[str, Any], *, selected: bool) -> None:
    assert matches(selector, LABELS) is selected


def test_an_unknown_operator_is_refused() -> None:
    with pytest.raises(ValueError, match="Gt"):
        matches(expression("app", "Gt", "1"), LABELS)


@given(st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=3), st.text(max_size=3))
def test_an_operator_and_its_opposite_never_agree(labels: dict[str, str], value: str) -> None:
    for key in (*labels, "other"):
        assert matches(expression(key, "In", value), labels) != matches(
            expression(key, "NotIn", value), labels
        )
        assert matches(expression(key, "Exists"), labels) != matches(expression(key, "DoesNotExist"), labels)
