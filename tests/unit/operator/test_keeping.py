"""B15: what a task's status has no room for goes to the artifact store before the status says that it ended."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from corral.api import ExecutionStatus, Reason
from corral.artifacts.fsspec_store import FsspecStore
from corral.artifacts.names import stored_name
from corral_operator.clock import Clock
from corral_operator.control.artifacts import Artifacts
from corral_operator.decisions.actions import Keep
from corral_operator.decisions.draft import Draft
from corral_operator.decisions.observed import Kept, Observed
from corral_operator.settings import Settings
from unit.operator.factories import NOW, pod
from unit.operator.task_factories import RULES, result, task

STORE = Settings(artifacts_url="s3://bucket/corral", status_bytes=300_000)
TEXT = "x" * 200_000


def _steps(**arguments: Any) -> list[dict[str, Any]]:
    last = {"name": "last", "tool": "once", "arguments": arguments}
    second = {"name": "second", "tool": "once", "arguments": {"text": "$(steps.first.result)"}}
    return [{"name": "first", "tool": "once"}, second, last]


def _draft(spec: dict[str, Any], *, settings: Settings = STORE, kept: Kept | None = None) -> Draft:
    executions = {
        "first": result(Reason.COMPLETED, name="first", value=TEXT),
        "second": ExecutionStatus(name="second", tool="once"),
    }
    observed = Observed(seen=NOW, kept={} if kept is None else {"second": kept})
    return Draft(task(spec), observed, NOW, replace(RULES, settings=settings), executions)


def _finish(draft: Draft) -> ExecutionStatus:
    box = pod("box")
    draft.finish(result(Reason.COMPLETED, name="second", value=TEXT), ran=True, pod=box, idle=True)
    return draft.executions["second"]


def test_B15_the_results_of_the_earliest_steps_are_stored_and_only_then_the_status_says_so() -> None:
    spec = {"steps": _steps()}
    draft = _draft(spec)
    assert _finish(draft).reason is None
    (action,) = draft.actions
    assert isinstance(action, Keep), "the pod goes before what it left is kept"
    assert {name: len(data) for name, data in action.contents.items()} == {
        stored_name("first", "result"): len(TEXT) + 2
    }
    again = _draft(spec, kept=Kept(frozenset(action.contents)))
    assert _finish(again).result == TEXT
    first = again.executions["first"]
    assert (first.reason, first.result) == (Reason.COMPLETED, None)
    assert [(one.name, one.size) for one in first.stored] == [("result", len(TEXT) + 2)]
    assert not any(isinstance(one, Keep) for one in again.actions)
    assert list(again.executions) == ["first", "second"]


def test_B15_a_result_that_a_step_may_yet_ask_for_stays() -> None:
    draft = _draft({"steps": _steps(text="$(steps.first.result)")})
    _finish(draft)
    (action,) = draft.actions
    assert isinstance(action, Keep)
    assert list(action.contents) == [stored_name("second", "result")]


def test_B15_a_store_that_does_not_keep_it_is_said_and_what_to_do() -> None:
    kept = Kept(problem="the artifact store failed; run it again", problem_type="ArtifactStoreFailed")
    ended = _finish(_draft({"steps": _steps()}, kept=kept))
    assert ended.error is not None
    assert (ended.reason, ended.error.type) == (Reason.OUTPUT_LIMIT, "ArtifactStoreFailed")
    assert (ended.message or "").endswith("run it again")


@pytest.mark.parametrize(
    ("most", "stored", "kept_as"),
    [(1024, True, ""), (1023, True, "ArtifactsTooLarge"), (1024, False, "ArtifactStoreFailed")],
)
async def test_B15_what_is_not_kept_says_whether_the_task_or_the_store_is_to_blame(
    tmp_path: Path, *, most: int, stored: bool, kept_as: str
) -> None:
    if not stored:
        (tmp_path / "store").write_text("a file, and no directory")
    artifacts = Artifacts(
        FsspecStore(str(tmp_path / "store")), Clock(), STORE.model_copy(update={"artifacts_task_size": most})
    )
    try:
        kept = await artifacts.keep(task({"tool": "shell"}), {stored_name("main", "result"): bytes(1024)})
    finally:
        await artifacts.close()
    assert kept.problem_type == kept_as
    assert bool(kept.problem) == bool(kept_as)
    assert ("CORRAL_ARTIFACTS_TASK_SIZE" in kept.problem) == (kept_as == "ArtifactsTooLarge")


@pytest.mark.parametrize("settings", [STORE, Settings(status_bytes=300_000)], ids=["needed", "no store"])
def test_B15_what_fits_nowhere_is_refused(settings: Settings) -> None:
    asked = {"a": "$(steps.first.result)", "b": "$(steps.second.result)"}
    draft = _draft({"steps": _steps(**asked)}, settings=settings)
    assert _finish(draft).reason is Reason.OUTPUT_LIMIT
    assert not any(isinstance(one, Keep) for one in draft.actions)
