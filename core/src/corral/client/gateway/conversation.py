"""What a client says to a gateway, without saying how: generators that yield effects and are sent their outcomes.

The synchronous and the asynchronous client perform the same conversations; neither decides anything itself.
"""

from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar, cast

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a multipart body. ``filename`` None: a field, not a file."""

    name: str
    filename: str | None
    content: bytes


@dataclass(frozen=True, slots=True)
class Request:
    """One request."""

    method: str
    #: Below the gateway's URL, quoted.
    path: str
    query: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    #: JSON.
    body: bytes | None = None
    parts: tuple[Part, ...] = ()
    #: A second one does no more than the first: it only reads, or carries an idempotency key.
    repeatable: bool = True


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. The names of headers are in small letters; the body of an open stream is empty."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class CutError(Exception):
    """The connection was not to be had, or was cut; thrown into a conversation in place of an answer.

    Attributes:
        reached: the request may have arrived.
    """

    def __init__(self, message: str, *, reached: bool) -> None:
        self.reached = reached
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Send:
    """Send a request and give its ``Answer``. Silence of ``silence_seconds`` is a cut."""

    request: Request
    silence_seconds: float


@dataclass(frozen=True, slots=True)
class Open:
    """The same, but what follows the headers of a good answer is to be ``Read``. The stream before it is closed."""

    request: Request
    silence_seconds: float


@dataclass(frozen=True, slots=True)
class Read:
    """Give the next bytes of the open stream; none at its end."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Let time pass."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Emit:
    """Hand a value to whoever iterates."""

    value: Any


Effect: TypeAlias = Send | Open | Read | Pause | Emit
#: Yields effects, is sent what they gave, and returns what the conversation was about.
Talk: TypeAlias = Generator[Effect, Any, T]


class Conversation(Generic[T]):
    """A talk under way: tells its next effect, or None at its end, when ``result`` is there."""

    def __init__(self, talk: Talk[T]) -> None:
        self._talk = talk
        self._result: T | None = None

    @property
    def result(self) -> T:
        """What the talk returned."""
        return cast("T", self._result)

    def go_on(self, outcome: Any = None) -> Effect | None:
        """Tell it what the last effect gave."""
        return self._step(lambda: self._talk.send(outcome))

    def fail(self, error: BaseException) -> Effect | None:
        """Tell it that the last effect failed; what it does not take care of is raised."""
        return self._step(lambda: self._talk.throw(error))

    def close(self) -> None:
        """End it where it stands."""
        self._talk.close()

    def _step(self, step: Callable[[], Effect]) -> Effect | None:
        try:
            return step()
        except StopIteration as end:
            self._result = end.value
            return None


def translated(talk: Talk[T], translate: Callable[[Any], Iterable[Any]]) -> Talk[T]:
    """Return the talk with each value that it emits replaced by any number of others."""
    conversation = Conversation(talk)
    effect = conversation.go_on()
    while effect is not None:
        if isinstance(effect, Emit):
            for value in translate(effect.value):
                yield Emit(value)
            effect = conversation.go_on()
            continue
        try:
            outcome = yield effect
        except GeneratorExit:
            conversation.close()
            raise
        except BaseException as error:  # noqa: BLE001 - it is the inner talk's to judge
            effect = conversation.fail(error)
        else:
            effect = conversation.go_on(outcome)
    return conversation.result
