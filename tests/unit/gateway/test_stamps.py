"""M5: whose a task is stands on it in a form that a cluster takes, and nobody can pass for somebody else."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.api import ObjectMeta
from corral.cluster.names import CALLER_LABEL
from corral_gateway.tasks.stamps import (
    CALLER_ANNOTATION,
    caller_label,
    caller_of,
    caller_stamps,
    keyed_name,
)

_SERVICE_ACCOUNT = "system:serviceaccount:team:bot"


@pytest.mark.parametrize("caller", ["ann", "A.b-c_9", "x" * 63, "a"])
def test_M5_a_name_that_a_label_takes_stands_there_as_it_is(caller: str) -> None:
    assert caller_stamps(caller) == ({CALLER_LABEL: caller}, {})


@pytest.mark.parametrize(
    "caller", [_SERVICE_ACCOUNT, "x" * 64, "-a", "a b", "ä", "a\n", "sub-1", "", "https://x|7"]
)
def test_M5_any_other_name_is_hashed_there_and_stands_in_full_beside(caller: str) -> None:
    labels, annotations = caller_stamps(caller)
    assert labels == {CALLER_LABEL: "sub-" + hashlib.sha256(caller.encode()).hexdigest()[:40]}
    assert annotations == {CALLER_ANNOTATION: caller}
    assert caller_of(labels, annotations) == (caller or labels[CALLER_LABEL])


@given(st.text(), st.text())
def test_M5_no_two_callers_have_one_label_and_a_cluster_takes_each(one: str, other: str) -> None:
    assert (caller_label(one) == caller_label(other)) is (one == other)
    assert caller_label(one) != caller_label(caller_label(_SERVICE_ACCOUNT))
    ObjectMeta(labels={CALLER_LABEL: caller_label(one)})


def test_M5_an_annotation_that_does_not_fit_the_label_names_nobody() -> None:
    assert caller_of({CALLER_LABEL: "ann"}, {CALLER_ANNOTATION: _SERVICE_ACCOUNT}) == "ann"
    assert caller_of({}, {CALLER_ANNOTATION: _SERVICE_ACCOUNT}) == ""


@given(st.text(), st.text(), st.text(), st.text())
def test_B1_a_key_names_one_task_of_one_caller(caller: str, key: str, other: str, another: str) -> None:
    same = (caller, key) == (other, another)
    assert (keyed_name(caller, key) == keyed_name(other, another)) is same
    assert ObjectMeta(name=keyed_name(caller, key)).name == keyed_name(caller, key)
