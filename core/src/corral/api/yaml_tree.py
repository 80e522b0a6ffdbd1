"""YAML with the place of every value, bounded in every direction.

PyYAML's own composer and constructor recurse, forget the lines, let a later key win over an earlier one, and expand
whatever a few hundred bytes of aliases ask for. Here libyaml's events become a tree of nodes, each with its JSON
value and its place, without recursion.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from corral.api.errors import Location, ManifestError, Problem, format_path
from corral.api.model import MAX_JSON_DEPTH

#: A document larger than that is no manifest: the spec alone may have 64 KiB.
MAX_DOCUMENT_CHARACTERS = 1 << 20
#: Values in a document after its aliases are expanded; far above what fits into one without them.
MAX_NODES = 200_000
#: What an argument may have, and the levels above it, such as spec, steps, the step, arguments.
MAX_DEPTH = MAX_JSON_DEPTH + 8

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
# YAML 1.1's booleans, as sigs.k8s.io/yaml reads them, without y and n, which are names of axes to most people.
_BOOLEANS = {
    **{form(word): True for word in ("true", "yes", "on") for form in (str.lower, str.title, str.upper)},
    **{form(word): False for word in ("false", "no", "off") for form in (str.lower, str.title, str.upper)},
}
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_OTHER_BASE = re.compile(r"[-+]?0(?:x[0-9a-fA-F]+|o?[0-7]+|b[01]+)")
_FLOAT = re.compile(
    r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
#: More digits are no number that anybody counts with, and Python refuses to convert them.
_MAX_DIGITS = 400
_TAGS = frozenset({"tag:yaml.org,2002:str", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq", "!"})


@dataclass(slots=True, eq=False)
class Node:
    """A value, its place, and the nodes in it."""

    #: The JSON value. What is aliased is shared, so nobody may change it.
    value: Any
    line: int
    column: int
    #: By field name or index; empty for a scalar.
    children: dict[str | int, "Node"] = field(default_factory=dict)
    #: Line and column of the keys of an object.
    keys: dict[str, tuple[int, int]] = field(default_factory=dict)
    #: Values in it, itself included, aliases expanded.
    size: int = 1
    #: Levels in it, itself included.
    height: int = 1

    def locate(self, location: Location, at_key: bool = False) -> tuple[int, int]:  # noqa: FBT001, FBT002
        """Return line and column, from 1, of what stands at a location, or of the nearest thing around it.

        For an object or list that is the place of its key, and so it is for anything where ``at_key`` is asked.
        """
        node, place = self, (self.line, self.column)
        for position, part in enumerate(location):
            child = node.children.get(part)
            if child is None:
                break
            last = position == len(location) - 1
            place = node.keys.get(str(part), (child.line, child.column))
            if last and not child.children and not at_key:
                place = child.line, child.column
            node = child
        return place


def read_documents(text: str | bytes, source: str | None = None) -> Iterator[Node]:
    """Yield the root of each document that has anything in it.

    Args:
        text: YAML, of which JSON is a part.
        source: what to call it in problems, such as the file's name.

    Raises:
        ManifestError: it is no YAML, or exceeds a bound, or has a key twice; when it is reached.
    """
    data = _encode(text, source)
    builder = _Builder(source)
    try:
        for event in yaml.parse(data, Loader=_Loader):
            root = builder.add(event)
            if root is not None and root.value is not None:
                yield root
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        message = f"not valid YAML: {error.problem or error.context}"
        raise ManifestError([_problem(source, message, mark)]) from None
    except yaml.reader.ReaderError as error:
        before = data[: error.position]
        line, column = before.count(b"\n") + 1, len(before) - before.rfind(b"\n")
        code = error.character if isinstance(error.character, int) else ord(error.character)
        problem = Problem(
            "",
            f"not valid YAML: character U+{code:04X} is not allowed",
            None,
            None,
            None,
            source,
            line,
            column,
        )
        raise ManifestError([problem]) from None


def _encode(text: str | bytes, source: str | None) -> bytes:
    if isinstance(text, bytes):
        try:
            text.decode()
        except UnicodeDecodeError as error:
            line = text.count(b"\n", 0, error.start) + 1
            raise ManifestError([Problem("", "not valid UTF-8", source=source, line=line)]) from None
        return text.removeprefix(b"\xef\xbb\xbf")
    try:
        return text.removeprefix("\ufeff").encode()
    except UnicodeEncodeError as error:
        line = text.count("\n", 0, error.start) + 1
        raise ManifestError([Problem("", "lone surrogates are no text", source=source, line=line)]) from None


def _problem(
    source: str | None, message: str, mark: Any, location: Location = (), remedy: str | None = None
) -> Problem:
    line, column = (None, None) if mark is None else (mark.line + 1, mark.column + 1)
    return Problem(format_path(location), message, remedy=remedy, source=source, line=line, column=column)


@dataclass(slots=True, eq=False)
class _Open:
    """An object or list whose end has not come yet."""

    node: Node
    mapping: bool
    anchor: str | None
    #: The key whose value comes next, and its mark.
    key: str | None = None
    merges: list[Node] = field(default_factory=list)


class _Builder:
    def __init__(self, source: str | None) -> None:
        self._source = source
        self._stack: list[_Open] = []
        self._anchors: dict[str, Node | None] = {}
        self._root: Node | None = None
        self._start = 0
        self._problems: list[Problem] = []
        self._merging = False

    def add(self, event: Any) -> Node | None:
        """Take the next event; return the root when a document ended."""
        match event:
            case yaml.ScalarEvent():
                self._bound(event)
                self._scalar(event)
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                self._bound(event)
                self._open(event)
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self._close()
            case yaml.AliasEvent():
                self._alias(event)
            case yaml.DocumentStartEvent():
                self._start = event.start_mark.index
                self._anchors.clear()
                self._root = None
            case yaml.DocumentEndEvent():
                if self._problems:
                    raise ManifestError(self._problems)
                return self._root
        return None

    def _bound(self, event: Any) -> None:
        if event.end_mark.index - self._start > MAX_DOCUMENT_CHARACTERS:
            raise ManifestError(
                [
                    _problem(
                        self._source,
                        f"the document is larger than {MAX_DOCUMENT_CHARACTERS >> 20} MiB",
                        event.start_mark,
                    )
                ]
            )
        if event.tag is not None and event.tag not in _TAGS:
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            self._refuse(event, f"the YAML tag {tag} is not supported")

    def _refuse(self, event: Any, message: str, remedy: str | None = None) -> None:
        raise ManifestError([_problem(self._source, message, event.start_mark, self._location(), remedy)])

    def _location(self) -> Location:
        return tuple(
            str(open_.key) if open_.mapping else len(open_.node.children)
            for open_ in self._stack
            if not open_.mapping or open_.key is not None
        )

    def _scalar(self, event: Any) -> None:
        top = self._stack[-1] if self._stack else None
        plain = event.style in (None, "") and event.tag is None
        line, column = event.start_mark.line + 1, event.start_mark.column + 1
        if top is not None and top.mapping and top.key is None:
            self._key(top, event, plain)
            return
        value = event.value
        if plain:
            if len(value) > _MAX_DIGITS and _INT.fullmatch(value):
                self._refuse(event, f"a number of {len(value)} digits", "put it in quotes")
            value = _resolve(value)
        node = Node(value, line, column)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        self._attach(node, event)

    def _key(self, top: _Open, event: Any, plain: bool) -> None:  # noqa: FBT001
        key: str = event.value
        top.key = key
        if plain and key == "<<":
            return
        place = event.start_mark.line + 1, event.start_mark.column + 1
        first = top.node.keys.setdefault(key, place)
        if first != place:
            message = f"the key is there already, in line {first[0]}"
            self._problems.append(_problem(self._source, message, event.start_mark, self._location()))

    def _open(self, event: Any) -> None:
        if self._stack and self._stack[-1].mapping and self._stack[-1].key is None:
            self._refuse(event, "expected a key that is a string")
        if len(self._stack) >= MAX_DEPTH:
            raise ManifestError(
                [_problem(self._source, f"expected at most {MAX_DEPTH} levels of nesting", event.start_mark)]
            )
        mapping = isinstance(event, yaml.MappingStartEvent)
        node = Node({} if mapping else [], event.start_mark.line + 1, event.start_mark.column + 1)
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        self._stack.append(_Open(node, mapping, event.anchor))

    def _close(self) -> None:
        done = self._stack.pop()
        for merged in done.merges:
            for key, child in merged.children.items():
                if key not in done.node.children:
                    self._put(done.node, key, child)
        if done.anchor is not None:
            self._anchors[done.anchor] = done.node
        self._attach(done.node, None)

    def _alias(self, event: Any) -> None:
        if self._stack and self._stack[-1].mapping and self._stack[-1].key is None:
            self._refuse(event, "expected a key that is a string, found an alias")
        node = self._anchors.get(event.anchor)
        if event.anchor not in self._anchors:
            self._refuse(event, f"there is no anchor &{event.anchor}")
        if node is None:
            self._refuse(event, f"*{event.anchor} stands inside of what it refers to")
        else:
            self._attach(node, event)

    def _attach(self, node: Node, event: Any) -> None:
        if not self._stack:
            self._root = node
            return
        top = self._stack[-1]
        if not top.mapping:
            self._put(top.node, len(top.node.children), node)
        elif top.key == "<<" and "<<" not in top.node.keys:
            self._merge(top, node, event)
            top.key = None
        else:
            if top.key not in top.node.children:
                self._put(top.node, str(top.key), node)
            top.key = None

    def _merge(self, top: _Open, node: Node, event: Any) -> None:
        parts = list(node.children.values()) if isinstance(node.value, list) else [node]
        if not all(isinstance(part.value, dict) for part in parts):
            raise ManifestError(
                [
                    Problem(
                        "",
                        "<< takes an object or a list of objects",
                        source=self._source,
                        line=node.line,
                        column=node.column,
                    )
                ]
            )
        top.merges.extend(parts)

    def _put(self, parent: Node, key: str | int, child: Node) -> None:
        parent.size += child.size
        parent.height = max(parent.height, child.height + 1)
        if parent.size > MAX_NODES or len(self._stack) + parent.height > MAX_DEPTH + 2:
            what = f"{MAX_NODES} values" if parent.size > MAX_NODES else f"{MAX_DEPTH} levels of nesting"
            problem = Problem(
                "",
                f"expected at most {what}, aliases expanded",
                source=self._source,
                line=child.line,
                column=child.column,
            )
            raise ManifestError([problem])
        parent.children[key] = child
        if isinstance(parent.value, list):
            parent.value.append(child.value)
        else:
            parent.value[key] = child.value


def _resolve(text: str) -> Any:
    """Return what a plain scalar means. A date stays text, as in JSON."""
    if text in _NULL:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if not (text[0].isdigit() or text[0] in "+-."):
        return text
    if _INT.fullmatch(text):
        return int(text)
    if len(text) <= _MAX_DIGITS:
        if _OTHER_BASE.fullmatch(text):
            octal = re.sub(r"^([-+]?)0(?=[0-7]+$)", r"\g<1>0o", text)
            return int(octal, 0)
        if _FLOAT.fullmatch(text):
            return float(
                text.replace(".inf", "inf")
                .replace(".Inf", "inf")
                .replace(".INF", "inf")
                .lower()
                .replace(".nan", "nan")
            )
    return text
