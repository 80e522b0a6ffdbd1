"""What is known of the cluster, whoever told it and in whatever order."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.api import SandboxPool, Tool
from corral.cluster.mirror import version_of
from corral_operator.control.store import Shelf, Store
from corral_operator.decisions.task_view import task_of
from corral_operator.names import CONTAINER
from corral_operator.views import pod_view
from unit.operator.factories import pod, raw_pod
from unit.operator.task_factories import tool


def _body(uid: str = "u1", version: object = 1, name: str = "a", namespace: str = "team") -> dict[str, Any]:
    metadata = {"uid": uid, "name": name, "namespace": namespace, "resourceVersion": str(version)}
    return {"metadata": metadata, "text": f"{uid}@{version}"}


def _shelf() -> Shelf[str]:
    return Shelf(lambda body: str(body["text"]))


def test_an_older_version_changes_nothing_and_the_same_one_is_no_news() -> None:
    shelf = _shelf()
    assert shelf.put(_body(version=9)) == "u1@9"
    assert shelf.put(_body(version=10)) == "u1@10", "versions are numbers, not text"
    assert shelf.put(_body(version=9)) is None
    assert shelf.put(_body(version=10)) is None
    assert (shelf.get("u1"), shelf.named("team", "a"), list(shelf), len(shelf)) == (
        "u1@10",
        "u1@10",
        ["u1@10"],
        1,
    )


def test_B13_a_late_event_does_not_bring_back_what_was_deleted() -> None:
    shelf = _shelf()
    shelf.put(_body())
    assert shelf.remove(_body()) == "u1@1"
    assert shelf.put(_body(version=99)) is None
    assert (len(shelf), shelf.get("u1"), shelf.named("team", "a")) == (0, None, None)


def test_what_was_deleted_before_it_was_seen_stays_deleted() -> None:
    shelf = _shelf()
    assert shelf.remove(_body()) is None
    assert shelf.put(_body(version=2)) is None


def test_a_name_belongs_to_the_newest_object_that_has_it() -> None:
    shelf = _shelf()
    shelf.put(_body("u1", 1))
    shelf.put(_body("u2", 5))
    assert shelf.named("team", "a") == "u2@5"
    shelf.remove(_body("u1", 6))
    assert shelf.named("team", "a") == "u2@5", "the late deletion of the first is not the second's"


def test_the_same_name_in_two_namespaces_is_two_objects() -> None:
    shelf = _shelf()
    shelf.put(_body("u1", namespace="one"))
    shelf.put(_body("u2", namespace="two"))
    assert (shelf.named("one", "a"), shelf.named("two", "a")) == ("u1@1", "u2@1")


def test_what_a_full_list_did_not_have_is_missing_unless_it_is_newer() -> None:
    shelf = _shelf()
    for number, version in enumerate((3, 7, 12)):
        shelf.put(_body(f"u{number}", version, f"n{number}"))
    assert shelf.missing({"u0"}, 10, None) == [("u1", ("team", "n1"))]
    assert shelf.missing(set(), 12, "team") == [(f"u{n}", ("team", f"n{n}")) for n in range(3)]
    assert shelf.missing(set(), 99, "other") == []


def test_an_object_whose_name_was_taken_again_unseen_is_missing_too() -> None:
    shelf = _shelf()
    shelf.put(_body("old", 1))
    shelf.put(_body("new", 5))
    assert "old" in {uid for uid, _ in shelf.missing({"new"}, 9, None)} or shelf.get("old") is None


@pytest.mark.parametrize(("version", "number"), [("12", 12), (None, 0), ("", 0), ("abc", 0)])
def test_a_version_that_is_no_number_is_older_than_all(version: str | None, number: int) -> None:
    assert version_of({"metadata": {"resourceVersion": version}}) == number


@given(st.permutations([1, 2, 3, 4, 5]), st.integers(0, 5))
def test_B13_whatever_the_order_of_events_the_newest_stands(versions: list[int], deleted_after: int) -> None:
    shelf = _shelf()
    for count, version in enumerate(versions):
        if count == deleted_after:
            shelf.remove(_body(version=0))
        shelf.put(_body(version=version))
    assert shelf.get("u1") == (None if deleted_after < len(versions) else "u1@5")


def test_tombstones_are_forgotten_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("corral_operator.control.store._TOMBSTONES", 2)
    shelf = _shelf()
    for number in range(3):
        shelf.remove(_body(f"u{number}"))
    assert shelf.put(_body("u0", name="x")) == "u0@1"
    assert shelf.put(_body("u2", name="y")) is None


def _store() -> Store:
    return Store(
        tasks=Shelf(task_of),
        pods=Shelf(lambda body: pod_view(body, CONTAINER)),
        pools=Shelf(SandboxPool.model_validate),
        tools=Shelf(Tool.model_validate),
    )


def test_M4_pods_are_found_by_their_owner_while_they_are_there() -> None:
    pods = Shelf(lambda body: pod_view(body, CONTAINER), lambda pod: pod.owner_uid)
    bodies = {}
    for name, owner in (("a", "small"), ("b", "large"), ("c", "small")):
        bodies[name] = raw_pod(name)
        bodies[name]["metadata"]["ownerReferences"] = [{"uid": owner, "controller": True}]
        pods.put(bodies[name])
    assert [one.key.name for one in pods.owned_by("small")] == ["a", "c"]
    pods.remove(bodies["a"])
    assert [one.key.name for one in pods.owned_by("small")] == ["c"]
    assert pods.owned_by("nobody") == []


def test_B13_a_pod_whose_owner_changes_belongs_to_the_new_one_alone() -> None:
    pods = Shelf(lambda body: pod_view(body, CONTAINER), lambda pod: pod.owner_uid)

    def owned(version: str, *owners: str) -> dict[str, Any]:
        body = raw_pod("a")
        references = [{"uid": owner, "controller": True} for owner in owners]
        body["metadata"] |= {"resourceVersion": version, "ownerReferences": references}
        return body

    pods.put(owned("1", "old"))
    pods.put(owned("2", "new"))
    assert ([one.key.name for one in pods.owned_by("new")], pods.owned_by("old")) == (["a"], [])
    pods.put(owned("3"))
    assert pods.owned_by("new") == []
    pods.put(owned("4", "new"))
    pods.remove(owned("5"))
    assert (pods.owned_by("new"), pods._owned) == ([], {})


def test_M2_a_pod_that_is_gone_is_remembered_as_it_was_last_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("corral_operator.control.store._GONE_PODS", 2)
    store = _store()
    for name in ("a", "b", "c"):
        store.pod_is_gone(pod(name))
    assert store.last_seen("team", "a") is None
    assert store.last_seen("team", "c") == pod("c")


def test_M7_a_namespace_sees_its_own_tools_before_the_built_in_ones_and_not_those_of_others() -> None:
    store = _store()
    for namespace, name in (("team", "calculator"), ("other", "theirs")):
        body = tool(name).to_wire()
        body["metadata"] |= {"namespace": namespace, "uid": f"{namespace}-{name}", "resourceVersion": "1"}
        store.tools.put(body)
    assert store.catalogue("team").get("calculator").spec.description == "calculator"
    assert store.catalogue("other").get("calculator").spec.description != "calculator"
    assert ("theirs" in store.catalogue("other"), "theirs" in store.catalogue("team")) == (True, False)


def test_M7_a_changed_tool_is_seen_once_the_namespace_is_told() -> None:
    store = _store()
    assert "mine" not in store.catalogue("team")
    body = tool("mine").to_wire()
    body["metadata"] |= {"namespace": "team", "uid": "t", "resourceVersion": "1"}
    store.tools.put(body)
    store.tools_changed("team")
    assert "mine" in store.catalogue("team")
