"""M5: a namespace is a tenant; each caller has one, and none slips into another's."""

import pytest

from corral_gateway.problems import ProblemError
from corral_gateway.tasks.cluster.namespaces import Namespaces

_TABLE = {"ann": "team-a", "system:serviceaccount:b:*": "b", "system:*": "rest"}


@pytest.mark.parametrize(
    ("caller", "namespace"),
    [
        ("ann", "team-a"),
        ("anna", "main"),
        ("system:serviceaccount:b:bot", "b"),
        ("system:serviceaccount:bb:bot", "rest"),
        ("somebody", "main"),
    ],
)
def test_M5_the_table_comes_first_and_the_longest_beginning_counts(caller: str, namespace: str) -> None:
    assert Namespaces("main", _TABLE).of(caller) == namespace


def test_M5_a_template_gives_each_caller_one_and_takes_no_name_that_is_none() -> None:
    namespaces = Namespaces("team-{caller}", {})
    assert namespaces.of("ann") == "team-ann"
    assert namespaces.watched == (None,)
    for caller in ("Ann", "a/b", "a.b", "system:serviceaccount:b:bot", "x" * 60, "", "a-"):
        with pytest.raises(ProblemError) as refused:
            namespaces.of(caller)
        assert (refused.value.status, refused.value.reason) == (403, "NoNamespace")


def test_M5_what_the_mapping_names_is_watched_and_nothing_else_is_used() -> None:
    assert Namespaces("main", _TABLE).watched == ("main", "team-a", "b", "rest")
    assert Namespaces("main", _TABLE, ("main", "*")).watched == (None,)
    given = Namespaces("main", _TABLE, ("main",))
    assert given.watched == ("main",)
    with pytest.raises(ProblemError):
        given.of("ann")
