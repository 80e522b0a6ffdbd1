"""Which waiting sandbox an execution gets."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.api import NetworkMode, PoolResources, SandboxPoolSpec, WhenEmpty, WhenLarger
from corral.cluster.port import ObjectKey
from corral_operator.decisions.match import Ask, Choice, ChoiceKind, PoolSupply, Why, choose
from corral_operator.decisions.sizes import SandboxSize
from unit.operator.factories import MIB, NOW, SIZE, pod

BOX = pod("box")
LARGE = SandboxSize(2.0, 1024 * MIB, 256 * MIB)


def _pool(name: str = "small", size: SandboxSize = SIZE, **changes: object) -> PoolSupply:
    supply = PoolSupply(
        key=ObjectKey("team", name, f"uid-{name}"),
        size=size,
        image=None,
        runtime_class=None,
        network=NetworkMode.NONE,
        when_empty=WhenEmpty.COLD,
        when_larger=WhenLarger.COLD,
        ready=(BOX,),
    )
    return replace(supply, **changes)  # type: ignore[arg-type]


def test_M4_a_pool_offers_what_its_spec_says_and_defaults_otherwise() -> None:
    spec = SandboxPoolSpec(image="mine:1", resources=PoolResources(memory="1Gi"), when_empty=WhenEmpty.QUEUE)
    assert PoolSupply.of(ObjectKey("team", "a", "u"), spec, [BOX]) == PoolSupply(
        key=ObjectKey("team", "a", "u"),
        size=SandboxSize(1.0, 1024 * MIB, 128 * MIB),
        image="mine:1",
        runtime_class=None,
        network=NetworkMode.NONE,
        when_empty=WhenEmpty.QUEUE,
        when_larger=WhenLarger.COLD,
        ready=(BOX,),
    )


def test_M4_the_smallest_pool_that_fits_gives_its_oldest_sandbox() -> None:
    old, young = pod("old", age=90), pod("young", age=10)
    pools = [_pool("large", LARGE), _pool("small", ready=(young, old)), _pool("tiny", replace(SIZE, cpu=0.5))]
    expected = Choice(ChoiceKind.WARM, Why.FITS, "pool small fits", "small", old)
    assert choose(pools, Ask(SIZE), late_secrets=False) == expected
    assert choose(reversed(pools), Ask(SIZE), late_secrets=False) == expected


def test_M4_a_larger_pool_with_a_sandbox_goes_before_a_smaller_one_without() -> None:
    choice = choose([_pool(ready=()), _pool("large", LARGE)], Ask(SIZE), late_secrets=False)
    assert (choice.kind, choice.pool) == (ChoiceKind.WARM, "large")


def test_M4_a_sandbox_is_given_once() -> None:
    choice = choose([_pool()], Ask(SIZE), late_secrets=False, taken={BOX.key.uid})
    assert (choice.kind, choice.rule) == (ChoiceKind.COLD, Why.POOL_EMPTY)


@pytest.mark.parametrize(
    ("pools", "ask", "rule"),
    [
        ([], Ask(SIZE), Why.NO_POOL),
        ([_pool()], Ask(SIZE, image="mine:1"), Why.OTHER_IMAGE),
        ([_pool(image="mine:1")], Ask(SIZE), Why.OTHER_IMAGE),
        ([_pool()], Ask(SIZE, runtime_class="gvisor"), Why.OTHER_RUNTIME_CLASS),
        ([_pool(runtime_class="gvisor")], Ask(SIZE), Why.OTHER_RUNTIME_CLASS),
        ([_pool()], Ask(SIZE, network=NetworkMode.ALLOWLIST), Why.OTHER_NETWORK),
        ([_pool()], Ask(LARGE), Why.TOO_LARGE),
        ([_pool()], Ask(SIZE, needs_secrets=True), Why.SECRETS),
        ([_pool(when_larger=WhenLarger.RESIZE)], Ask(replace(SIZE, disk_bytes=129 * MIB)), Why.TOO_LARGE),
        ([_pool(ready=())], Ask(SIZE), Why.POOL_EMPTY),
    ],
)
def test_M4_why_an_execution_gets_a_pod_of_its_own(pools: list[PoolSupply], ask: Ask, rule: Why) -> None:
    choice = choose(pools, ask, late_secrets=False)
    assert (choice.kind, choice.rule, choice.pod) == (ChoiceKind.COLD, rule, None)
    assert choice.why


def test_B7_secrets_go_to_a_waiting_sandbox_where_the_namespace_allows_it() -> None:
    assert choose([_pool()], Ask(SIZE, needs_secrets=True), late_secrets=True).kind is ChoiceKind.WARM


def test_B7_a_larger_task_resizes_where_the_pool_says_so_and_keeps_what_is_larger_already() -> None:
    asked = SandboxSize(0.5, 2048 * MIB, 64 * MIB)
    choice = choose([_pool(when_larger=WhenLarger.RESIZE)], Ask(asked), late_secrets=False)
    assert choice == Choice(
        ChoiceKind.RESIZE,
        Why.RESIZED,
        "pool small fits once it is given more",
        "small",
        BOX,
        SandboxSize(1.0, 2048 * MIB, 128 * MIB),
    )


def test_B7_a_pool_that_fits_goes_before_one_that_must_be_resized() -> None:
    pools = [_pool(when_larger=WhenLarger.RESIZE), _pool("large", LARGE)]
    choice = choose(pools, Ask(LARGE), late_secrets=False)
    assert (choice.kind, choice.pool) == (ChoiceKind.WARM, "large")


@pytest.mark.parametrize(
    ("when_empty", "kind", "retry_after"),
    [
        (WhenEmpty.QUEUE, ChoiceKind.QUEUE, None),
        (WhenEmpty.COLD, ChoiceKind.COLD, None),
        (WhenEmpty.REFUSE, ChoiceKind.REFUSE, 5),
    ],
)
@pytest.mark.parametrize("ask", [Ask(SIZE), Ask(replace(SIZE, cpu=2.0))])
def test_M4_an_empty_pool_does_what_its_spec_says(
    when_empty: WhenEmpty, kind: ChoiceKind, retry_after: int | None, ask: Ask
) -> None:
    pool = _pool(when_empty=when_empty, when_larger=WhenLarger.RESIZE, ready=())
    choice = choose([pool], ask, late_secrets=False)
    assert (choice.kind, choice.pool, choice.retry_after_seconds) == (kind, "small", retry_after)


SIZES = st.builds(SandboxSize, st.sampled_from([0.5, 1.0, 2.0]), st.integers(1, 3), st.integers(1, 3))
POOLS = st.lists(
    st.tuples(SIZES, st.sampled_from(WhenLarger), st.sampled_from(WhenEmpty), st.integers(0, 2)), max_size=5
)


@given(pools=POOLS, size=SIZES)
def test_M4_whatever_the_pools_a_choice_fits_and_does_not_depend_on_their_order(
    pools: list[tuple[SandboxSize, WhenLarger, WhenEmpty, int]], size: SandboxSize
) -> None:
    supplies = [
        _pool(
            f"p{number}",
            given,
            when_larger=larger,
            when_empty=empty,
            ready=tuple(pod(f"p{number}-{i}", age=i, now=NOW - timedelta(seconds=i)) for i in range(count)),
        )
        for number, (given, larger, empty, count) in enumerate(pools)
    ]
    choice = choose(supplies, Ask(size), late_secrets=False)
    assert choice == choose(supplies[::-1], Ask(size), late_secrets=False)
    by_name = {supply.key.name: supply for supply in supplies}
    fitting = [supply for supply in supplies if supply.ready and supply.size.holds(size)]
    if choice.kind is ChoiceKind.WARM:
        assert by_name[choice.pool or ""] in fitting
    elif choice.kind is ChoiceKind.RESIZE:
        assert choice.size is not None
        assert choice.size.holds(size)
        assert choice.size.disk_bytes == by_name[choice.pool or ""].size.disk_bytes
    assert (choice.kind is ChoiceKind.WARM) is bool(fitting)
