"""References: ``$(steps.NAME.result.path.0.x)``, ``$(steps.NAME.stdout)``, ``$(arguments.NAME)``.

Kubernetes' own notation for variables in commands, with one difference: only references to a known root are
references. ``$(date)`` in a shell script stays what it is, and so does ``$$(date)``; the escape is
``$$(steps.a.stdout)``, which becomes the text ``$(steps.a.stdout)``.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from corral.api.errors import CorralError, Location, format_path

#: What a step offers to others.
STEP_OUTPUTS = ("result", "stdout", "stderr", "reason")
#: What resolved arguments may weigh: the runner takes no longer line.
MAX_RESOLVED_BYTES = 768 * 1024

#: The escape first, then a reference; one without a closing bracket is found too, so that it can be refused.
_REFERENCE = re.compile(r"(\$)?\$\((steps|arguments)(?![\w-])((?:\.[^.()\s]*)*)(\))?")


class ReferenceProblem(CorralError, ValueError):  # noqa: N818 - ReferenceError is Python's own
    """A reference is malformed, or what it refers to is not there.

    ``location`` is where the string with the reference stands, ``reference`` its text.
    """

    def __init__(self, reference: str, message: str, location: Location = ()) -> None:
        self.reference = reference
        self.message = message
        self.location = location
        super().__init__(": ".join(part for part in (format_path(location), message) if part))

    def below(self, location: Location) -> "ReferenceProblem":
        """Return the same problem, seen from further up."""
        return ReferenceProblem(self.reference, self.message, (*location, *self.location))


@dataclass(frozen=True, slots=True)
class Reference:
    """One reference, taken apart."""

    #: ``steps`` or ``arguments``.
    root: str
    #: The step's or the argument's name.
    name: str
    #: What follows the name: for a step, first one of ``STEP_OUTPUTS``.
    path: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"$({'.'.join((self.root, self.name, *self.path))})"


#: Returns what a reference stands for; raises ``ReferenceProblem`` where there is nothing.
Lookup = Callable[[Reference], Any]


def find_references(value: Any, root: str = "steps") -> Iterator[tuple[Location, Reference]]:
    """Yield every reference in the strings of a JSON value, with where it stands. Keys are not looked at.

    Raises:
        ReferenceProblem: one is malformed.
    """
    pending: list[tuple[Any, Location]] = [(value, ())]
    while pending:
        item, location = pending.pop()
        if isinstance(item, str):
            for match in _REFERENCE.finditer(item):
                if match[1] is None and match[2] == root:
                    yield location, _parse(match, location)
        else:
            pending.extend((part, (*location, key)) for key, part in reversed(_parts(item)))


def references_in(value: Any, root: str = "steps") -> set[Reference]:
    """Return the references in a JSON value.

    Raises:
        ReferenceProblem: one is malformed.
    """
    return {reference for _, reference in find_references(value, root)}


def resolve(value: Any, lookup: Lookup, root: str = "steps", *, max_bytes: int = MAX_RESOLVED_BYTES) -> Any:
    """Return a JSON value with its references replaced.

    A string that is one reference and nothing else becomes what it refers to, with its JSON type. Elsewhere
    text is put in as it stands and anything else as compact JSON. What is put in is not looked through again.

    Args:
        value: any JSON value, not deeper than ``MAX_JSON_DEPTH``.
        lookup: what a reference stands for.
        root: which references to replace; those of the other root stay.
        max_bytes: what all that is put in may weigh; a small text can refer to a large result many times.

    Raises:
        ReferenceProblem: one is malformed, refers to nothing, or the whole grows too large.
    """
    return _Resolution(lookup, root, max_bytes).value(value, ())


def walk_path(value: Any, reference: Reference, path: Sequence[str]) -> Any:
    """Return the part of a JSON value that a path leads to: names into objects, numbers into lists.

    Raises:
        ReferenceProblem: it leads nowhere; the message says how far it led.
    """
    for position, part in enumerate(path):
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, list | tuple) and part.isascii() and part.isdigit() and len(part) < 10:
            if int(part) >= len(value):
                raise ReferenceProblem(
                    str(reference), f"{reference}: the list has {len(value)} entries, none with index {part}"
                )
            value = value[int(part)]
        else:
            led = ".".join(path[:position]) or "the value"
            raise ReferenceProblem(str(reference), f"{reference}: {led} {_lacks(value, part)}")
    return value


def _lacks(value: Any, part: str) -> str:
    if isinstance(value, Mapping):
        names = ", ".join(sorted(str(key) for key in value)[:8])
        return f'has no "{part}"' + (f"; it has {names}" if names else "; it is empty")
    if isinstance(value, list | tuple):
        return f'is a list, "{part}" is no index'
    return f'is no object, so has no "{part}"'


def _parts(item: Any) -> list[tuple[str | int, Any]]:
    if isinstance(item, Mapping):
        return list(item.items())
    if isinstance(item, list | tuple):
        return list(enumerate(item))
    return []


def _parse(match: "re.Match[str]", location: Location) -> Reference:
    text = match[0]
    if match[4] is None:
        raise ReferenceProblem(
            text, f"{text}: the reference is not closed; write $$( for the text itself", location
        )
    segments = match[3].split(".")[1:]
    if not segments or not all(segments):
        raise ReferenceProblem(text, f"{text}: expected $({match[2]}.NAME{_SHAPES[match[2]]})", location)
    reference = Reference(match[2], segments[0], tuple(segments[1:]))
    if reference.root == "steps":
        _check_step(reference, location)
    return reference


_SHAPES = {"steps": ".result) or $(steps.NAME.stdout", "arguments": ""}


def _check_step(reference: Reference, location: Location) -> None:
    output = reference.path[0] if reference.path else None
    if output not in STEP_OUTPUTS:
        known = ", ".join(STEP_OUTPUTS)
        raise ReferenceProblem(
            str(reference), f"{reference}: expected one of {known} after the step's name", location
        )
    if output != "result" and len(reference.path) > 1:
        raise ReferenceProblem(
            str(reference), f"{reference}: {output} is text, nothing can follow it", location
        )


class _Resolution:
    def __init__(self, lookup: Lookup, root: str, max_bytes: int) -> None:
        self._lookup = lookup
        self._root = root
        self._left = max_bytes
        self._weights: dict[Reference, int] = {}

    def value(self, item: Any, location: Location) -> Any:
        if isinstance(item, str):
            return self._text(item, location)
        if isinstance(item, Mapping):
            return {key: self.value(part, (*location, key)) for key, part in item.items()}
        if isinstance(item, list | tuple):
            return [self.value(part, (*location, index)) for index, part in enumerate(item)]
        return item

    def _text(self, text: str, location: Location) -> Any:
        whole = _REFERENCE.fullmatch(text)
        if whole is not None and whole[1] is None and whole[2] == self._root:
            return self._found(whole, location)
        return _REFERENCE.sub(lambda match: self._inserted(match, location), text)

    def _inserted(self, match: "re.Match[str]", location: Location) -> str:
        if match[2] != self._root:
            return match[0]
        if match[1] is not None:
            return match[0][1:]
        found = self._found(match, location)
        return found if isinstance(found, str) else _compact(found)

    def _found(self, match: "re.Match[str]", location: Location) -> Any:
        reference = _parse(match, location)
        try:
            found = self._lookup(reference)
        except ReferenceProblem as problem:
            raise problem.below(location) from None
        if reference not in self._weights:
            self._weights[reference] = len(_compact(found))
        self._left -= self._weights[reference]
        if self._left < 0:
            raise ReferenceProblem(
                str(reference),
                f"{reference}: what the references put in is too large; pass a file instead",
                location,
            )
        return found


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
