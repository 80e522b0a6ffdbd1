"""The logic of chains."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.api import (
    AgentTaskSpec,
    ChainDecision,
    ManifestError,
    Reason,
    ReferenceProblem,
    Step,
    StepOutcome,
    dependencies,
    next_steps,
    parse_resource,
    resolve_arguments,
)

DONE = StepOutcome(Reason.COMPLETED)
FAILED = StepOutcome(Reason.TOOL_ERROR)


def chain(*steps: dict[str, Any], **spec: Any) -> AgentTaskSpec:
    return AgentTaskSpec.from_wire({"steps": [{"tool": "t", **step} for step in steps], **spec})


def problems(*steps: dict[str, Any], **spec: Any) -> dict[str, str]:
    """Return the messages by path that a chain is refused with."""
    task = {
        "apiVersion": "corral.dev/v1alpha1",
        "kind": "AgentTask",
        "metadata": {"name": "x"},
        "spec": {"steps": [{"tool": "t", **step} for step in steps], **spec},
    }
    with pytest.raises(ManifestError) as caught:
        parse_resource(task)
    return {problem.path: problem.message for problem in caught.value.problems}


def test_D3_a_sequence_runs_one_step_after_the_other() -> None:
    spec = chain({"name": "a"}, {"name": "b"}, {"name": "c"})
    assert next_steps(spec, {}) == ChainDecision(ready=("a",))
    assert next_steps(spec, {}, {"a"}) == ChainDecision()
    assert next_steps(spec, {"a": DONE}) == ChainDecision(ready=("b",))
    end = next_steps(spec, {"a": DONE, "b": DONE, "c": DONE})
    assert (end.finished, end.reason, end.message) == (True, Reason.COMPLETED, "3 steps ended")


def test_D3_parallel_steps_start_as_soon_as_what_they_wait_for_has_ended() -> None:
    spec = chain(
        {"name": "a"},
        {"name": "b"},
        {"name": "c", "arguments": {"x": "$(steps.a.result)"}},
        {"name": "d", "dependsOn": ["b", "c"]},
        strategy="Parallel",
    )
    assert next_steps(spec, {}).ready == ("a", "b")
    assert next_steps(spec, {"a": DONE}, {"b"}).ready == ("c",)
    assert next_steps(spec, {"a": DONE, "b": DONE}, {"c"}) == ChainDecision()
    assert next_steps(spec, {"a": DONE, "b": DONE, "c": DONE}).ready == ("d",)
    assert dependencies(spec.steps, spec.strategy) == {"a": (), "b": (), "c": ("a",), "d": ("b", "c")}


def test_D3_a_failed_step_stops_the_chain_but_not_what_runs() -> None:
    spec = chain({"name": "a"}, {"name": "b"}, {"name": "c", "dependsOn": ["a"]}, strategy="Parallel")
    assert next_steps(spec, {"a": FAILED}, {"b"}) == ChainDecision(skipped=("c",))
    assert next_steps(spec, {"a": FAILED, "b": DONE}) == ChainDecision(
        skipped=("c",), reason=Reason.STEP_FAILED, message="step a ended with ToolError"
    )


def test_a_chain_whose_step_was_cancelled_is_cancelled() -> None:
    end = next_steps(chain({"name": "a"}, {"name": "b"}), {"a": StepOutcome(Reason.CANCELLED)})
    assert end.reason is Reason.CANCELLED


def test_D3_a_step_may_fail_where_the_chain_says_continue() -> None:
    spec = chain({"name": "a", "onFailure": "Continue"}, {"name": "b"})
    assert next_steps(spec, {"a": FAILED}).ready == ("b",)
    end = next_steps(spec, {"a": FAILED, "b": DONE})
    assert (end.reason, end.message) == (Reason.COMPLETED, "2 steps ended, a failed with onFailure: Continue")


def test_arguments_are_resolved_from_what_ended() -> None:
    step = Step.from_wire(
        {"name": "b", "tool": "t", "arguments": {"n": "$(steps.a.result.n)", "why": "$(steps.a.reason)"}}
    )
    outcome = StepOutcome(Reason.COMPLETED, {"n": [1]})
    assert resolve_arguments(step, {"a": outcome}) == {"n": [1], "why": "Completed"}


def test_a_missing_result_names_the_argument_and_the_reason() -> None:
    step = Step.from_wire({"name": "b", "tool": "t", "arguments": {"list": ["$(steps.a.result)"]}})
    with pytest.raises(ReferenceProblem, match="step a ended with ToolError and left no result") as caught:
        resolve_arguments(step, {"a": FAILED})
    assert caught.value.location == ("arguments", "list", 0)
    with pytest.raises(ReferenceProblem, match="step a has not ended"):
        resolve_arguments(step, {})


def test_D3_names_must_be_unique_and_known_with_the_path_of_each() -> None:
    assert problems(
        {"name": "a"},
        {"name": "a"},
        {"name": "b", "dependsOn": ["a", "gone"], "arguments": {"text": ["$(steps.lost.stdout)"]}},
    ) == {
        "spec.steps[1].name": 'a step named "a" is there already',
        "spec.steps[2].dependsOn[1]": 'there is no step named "gone"; there are a, b',
        "spec.steps[2].arguments.text[0]": 'there is no step named "lost"; there are a, b',
    }


def test_D3_a_malformed_reference_is_refused_at_once() -> None:
    found = problems({"name": "a"}, {"name": "b", "arguments": {"text": "see $(steps.a.otput)"}})
    assert list(found) == ["spec.steps[1].arguments.text"]


def test_D3_a_sequence_cannot_refer_ahead_or_to_itself() -> None:
    assert problems(
        {"name": "a", "arguments": {"x": "$(steps.b.result)"}}, {"name": "b", "dependsOn": ["b"]}
    ) == {
        "spec.steps[0].arguments.x": 'step "b" comes later in the sequence',
        "spec.steps[1].dependsOn[0]": "a step cannot wait for itself",
    }


def test_D3_a_cycle_is_named_step_by_step() -> None:
    found = problems(
        {"name": "first"},
        {"name": "a", "dependsOn": ["first", "c"]},
        {"name": "b", "arguments": {"x": "$(steps.a.result)"}},
        {"name": "c", "dependsOn": ["b"]},
        {"name": "behind", "dependsOn": ["c"]},
        strategy="Parallel",
    )
    assert found == {"spec.steps[2].arguments.x": "the steps wait for each other: a → c → b → a"}


def test_D3_the_depth_counts_dependencies_and_not_the_order() -> None:
    chain(*({"name": f"s{index}"} for index in range(20)))  # a list of twenty has depth 1
    deep: list[dict[str, Any]] = [
        {"name": "s0"},
        *({"name": f"s{index}", "dependsOn": [f"s{index - 1}"]} for index in range(1, 9)),
    ]
    assert problems(*deep) == {"spec.steps[8]": "depth 9 of the chain is more than maxDepth 8"}
    chain(*deep, maxDepth=9)


@st.composite
def acyclic(draw: st.DrawFn) -> AgentTaskSpec:
    """Draw a parallel chain whose steps refer only to earlier ones."""
    size = draw(st.integers(1, 12))
    steps = []
    for index in range(size):
        needs = draw(st.lists(st.integers(0, index - 1), max_size=3, unique=True)) if index else []
        on_failure = draw(st.sampled_from(["Stop", "Continue"]))
        steps.append(
            {"name": f"s{index}", "dependsOn": [f"s{need}" for need in needs], "onFailure": on_failure}
        )
    return chain(*steps, strategy=draw(st.sampled_from(["Sequential", "Parallel"])), maxDepth=64)


@given(acyclic(), st.randoms(use_true_random=False))
def test_D3_every_chain_ends_and_no_step_starts_before_what_it_waits_for(
    spec: AgentTaskSpec, random: Any
) -> None:
    finished: dict[str, StepOutcome] = {}
    running: set[str] = set()
    started: list[str] = []
    before = dependencies(spec.steps, spec.strategy)
    for _ in range(100):
        decision = next_steps(spec, finished, running)
        if decision.finished:
            break
        for name in decision.ready:
            assert name not in started
            assert set(before[name]) <= set(finished)
            started.append(name)
            running.add(name)
        assert running, "a chain that is not finished must have something to wait for"
        ended = random.choice(sorted(running))
        running.discard(ended)
        finished[ended] = random.choice([DONE, DONE, FAILED])
    else:
        raise AssertionError("the chain did not end")
    assert not running
    assert set(started) | set(decision.skipped) == {step.name for step in spec.steps}
