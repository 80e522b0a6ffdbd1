"""Which waiting sandbox an execution gets, or why it gets none. Pure."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum

from corral.api import NetworkMode, SandboxPoolSpec, WhenEmpty, WhenLarger
from corral.cluster.port import ObjectKey
from corral_operator.decisions.sizes import SandboxSize
from corral_operator.decisions.template import pool_size
from corral_operator.views import PodView

#: Refills are seconds apart; a caller that was refused need not wait longer.
_RETRY_AFTER_SECONDS = 5


@dataclass(frozen=True, slots=True)
class PoolSupply:
    """A pool, and the sandboxes of it that may be had now."""

    key: ObjectKey
    size: SandboxSize
    #: None: the operator's own, in a task's request, too.
    image: str | None
    #: None: the operator's default.
    runtime_class: str | None
    network: NetworkMode
    when_empty: WhenEmpty
    when_larger: WhenLarger
    #: Ready and claimed by nobody.
    ready: tuple[PodView, ...] = ()

    @classmethod
    def of(cls, key: ObjectKey, spec: SandboxPoolSpec, ready: Iterable[PodView]) -> "PoolSupply":
        """Return what a pool offers.

        Args:
            key: of the pool.
            spec: of the pool.
            ready: its sandboxes that ``pool.is_usable`` and that nobody has claimed.
        """
        return cls(
            key=key,
            size=pool_size(spec),
            image=spec.image,
            runtime_class=spec.runtime_class_name,
            network=spec.network,
            when_empty=spec.when_empty,
            when_larger=spec.when_larger,
            ready=tuple(ready),
        )


@dataclass(frozen=True, slots=True)
class Ask:
    """What an execution needs of a sandbox."""

    size: SandboxSize
    image: str | None = None
    runtime_class: str | None = None
    network: NetworkMode = NetworkMode.NONE
    needs_secrets: bool = False


class ChoiceKind(StrEnum):
    """How an execution comes to its sandbox; the label of the metric of hits and misses."""

    WARM = "warm"
    RESIZE = "resize"
    COLD = "cold"
    QUEUE = "queue"
    REFUSE = "refuse"


class Why(StrEnum):
    """The rule behind a choice: a closed list, for metrics."""

    FITS = "fits"
    RESIZED = "resized"
    NO_POOL = "no-pool"
    OTHER_IMAGE = "other-image"
    OTHER_RUNTIME_CLASS = "other-runtime-class"
    OTHER_NETWORK = "other-network"
    TOO_LARGE = "too-large"
    SECRETS = "secrets"
    POOL_EMPTY = "pool-empty"


@dataclass(frozen=True, slots=True)
class Choice:
    """What an execution gets."""

    kind: ChoiceKind
    rule: Why
    #: The same in words.
    why: str
    #: Name of the pool that decided; None if none fits.
    pool: str | None = None
    pod: PodView | None = None
    #: What the sandbox must become, where it is resized.
    size: SandboxSize | None = None
    retry_after_seconds: int | None = None


def choose(
    pools: Iterable[PoolSupply], ask: Ask, *, late_secrets: bool, taken: Collection[str] = frozenset()
) -> Choice:
    """Choose a sandbox: the smallest pool that fits and has one, its oldest first.

    A pool whose sandboxes are too small counts behind all that fit, and only if it says ``whenLarger: Resize``.
    The oldest goes first so that none waits for ever.

    Args:
        pools: those of the task's namespace.
        ask: what is needed.
        late_secrets: the operator may hand secrets of this namespace to a waiting sandbox.
        taken: UIDs of sandboxes that somebody was given meanwhile.
    """
    pools = sorted(pools, key=_by_size)
    if ask.needs_secrets and not late_secrets:
        return _cold(Why.SECRETS, "its secrets can be put only into a pod that is made for it")
    if not pools:
        return _cold(Why.NO_POOL, "the namespace has no pool")
    alike = _alike(pools, ask)
    if isinstance(alike, Choice):
        return alike
    fitting = [pool for pool in alike if pool.size.holds(ask.size)]
    resizable = [pool for pool in alike if pool not in fitting and _can_resize(pool, ask)]
    if not fitting and not resizable:
        names = ", ".join(pool.key.name for pool in alike)
        return _cold(Why.TOO_LARGE, f"its limits are above those of the sandboxes of {names}")
    return (
        _ready_one(fitting, ask, taken)
        or _ready_one(resizable, ask, taken)
        or _empty([*fitting, *resizable][0])
    )


def _ready_one(pools: list[PoolSupply], ask: Ask, taken: Collection[str]) -> Choice | None:
    for pool in pools:
        pod, name = _oldest(pool, taken), pool.key.name
        if pod is None:
            continue
        if pool.size.holds(ask.size):
            return Choice(ChoiceKind.WARM, Why.FITS, f"pool {name} fits", name, pod)
        size = _resized(pool.size, ask.size)
        return Choice(
            ChoiceKind.RESIZE, Why.RESIZED, f"pool {name} fits once it is given more", name, pod, size
        )
    return None


def _alike(pools: list[PoolSupply], ask: Ask) -> list[PoolSupply] | Choice:
    """Return the pools of the same kind, and what to say if there are none: the first thing that no pool has."""
    kinds: tuple[tuple[Why, str, Callable[[PoolSupply | Ask], str | None]], ...] = (
        (Why.OTHER_NETWORK, "network", lambda one: one.network),
        (Why.OTHER_RUNTIME_CLASS, "runtime class", lambda one: one.runtime_class),
        (Why.OTHER_IMAGE, "image", lambda one: one.image),
    )
    for rule, what, of in kinds:
        pools = [pool for pool in pools if of(pool) == of(ask)]
        if not pools:
            return _cold(rule, f"no pool of the namespace has the {what} {of(ask) or 'that is the default'}")
    return pools


def _empty(pool: PoolSupply) -> Choice:
    name = pool.key.name
    if pool.when_empty is WhenEmpty.QUEUE:
        return Choice(ChoiceKind.QUEUE, Why.POOL_EMPTY, f"waits for pool {name} to be refilled", name)
    if pool.when_empty is WhenEmpty.REFUSE:
        why = f"pool {name} has no sandbox ready, and its whenEmpty is Refuse"
        return Choice(ChoiceKind.REFUSE, Why.POOL_EMPTY, why, name, retry_after_seconds=_RETRY_AFTER_SECONDS)
    return Choice(ChoiceKind.COLD, Why.POOL_EMPTY, f"pool {name} has no sandbox ready", name)


def _cold(rule: Why, why: str) -> Choice:
    return Choice(ChoiceKind.COLD, rule, why)


def _can_resize(pool: PoolSupply, ask: Ask) -> bool:
    """More CPU and memory can be given in place; a volume keeps its size."""
    return pool.when_larger is WhenLarger.RESIZE and ask.size.disk_bytes <= pool.size.disk_bytes


def _resized(have: SandboxSize, need: SandboxSize) -> SandboxSize:
    """Nothing is made smaller: lowering a memory limit may fail, and the runner holds the tool to its own limits."""
    return SandboxSize(max(have.cpu, need.cpu), max(have.memory_bytes, need.memory_bytes), have.disk_bytes)


def _oldest(pool: PoolSupply, taken: Collection[str]) -> PodView | None:
    free = [pod for pod in pool.ready if pod.key.uid not in taken]
    return min(free, key=lambda pod: (pod.created, pod.key.name), default=None)


def _by_size(pool: PoolSupply) -> tuple[int, float, int, str]:
    # Memory first: it is what a node has least of.
    return pool.size.memory_bytes, pool.size.cpu, pool.size.disk_bytes, pool.key.name
