"""YAML with the place of every value, bounded in every direction.

PyYAML's own composer and constructor recurse, forget the lines, let a later key win over an earlier one and
expand whatever a few hundred bytes of aliases ask for. Here libyaml's events become a tree of nodes, each
with its JSON value and its place, without recursion.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

import yaml

from corral.api.errors import Location, ManifestError, Problem, format_path
from corral.api.json_values import MAX_JSON_DEPTH
from corral.api.yaml_scalars import resolve_plain

#: A document larger than that is no manifest: the spec alone may have 64 KiB.
MAX_DOCUMENT_CHARACTERS = 1 << 20
#: Values in a document after its aliases are expanded; far above what fits into one without them.
MAX_NODES = 200_000
#: What an argument may have, and the levels above it, such as spec, steps, the step, arguments.
MAX_DEPTH = MAX_JSON_DEPTH + 8

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAGS = frozenset({None, "tag:yaml.org,2002:str", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq", "!"})


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

        For an object or list that is the place of its key, and for anything else where ``at_key`` is asked.
        """
        node, place = self, (self.line, self.column)
        for position, part in enumerate(location):
            child = node.children.get(part)
            if child is None:
                break
            place = node.keys.get(str(part), (child.line, child.column))
            if position == len(location) - 1 and not child.children and not at_key:
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
        line, column = (None, None) if mark is None else (mark.line + 1, mark.column + 1)
        raise ManifestError([Problem("", message, source=source, line=line, column=column)]) from None
    except yaml.reader.ReaderError as error:
        before = data[: error.position]
        line, column = before.count(b"\n") + 1, len(before) - before.rfind(b"\n")
        code = error.character if isinstance(error.character, int) else ord(error.character)
        message = f"not valid YAML: the character U+{code:04X} is not allowed"
        raise ManifestError([Problem("", message, source=source, line=line, column=column)]) from None


def _encode(text: str | bytes, source: str | None) -> bytes:
    """Return UTF-8 without byte order mark. libyaml would take UTF-16 too; the API server would not."""
    try:
        if isinstance(text, str):
            return text.removeprefix("\ufeff").encode()
        text.decode()
    except UnicodeEncodeError as error:
        line = error.object.count("\n", 0, error.start) + 1
        raise ManifestError([Problem("", "lone surrogates are no text", source=source, line=line)]) from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ManifestError([Problem("", "not valid UTF-8", source=source, line=line)]) from None
    return text.removeprefix(b"\xef\xbb\xbf")


@dataclass(slots=True, eq=False)
class _Open:
    """An object or list whose end has not come yet."""

    node: Node
    anchor: str | None
    #: The key whose value comes next; None where a key comes next, and in a list.
    key: str | None = None
    #: That value is to be merged (``<<``).
    merging: bool = False
    merges: list[Node] = field(default_factory=list)

    @property
    def mapping(self) -> bool:
        return isinstance(self.node.value, dict)


class _Builder:
    def __init__(self, source: str | None) -> None:
        self._source = source
        self._stack: list[_Open] = []
        #: None while what the anchor names is still open.
        self._anchors: dict[str, Node | None] = {}
        self._root: Node | None = None
        self._start = 0
        self._twice: list[Problem] = []

    def add(self, event: Any) -> Node | None:
        """Take the next event; return the root when a document ended."""
        match event:
            case yaml.ScalarEvent():
                self._scalar(event)
            case yaml.MappingStartEvent():
                self._open(event, {})
            case yaml.SequenceStartEvent():
                self._open(event, [])
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self._close()
            case yaml.AliasEvent():
                self._alias(event)
            case yaml.DocumentStartEvent():
                self._begin(event)
            case yaml.DocumentEndEvent():
                if self._twice:
                    raise ManifestError(self._twice)
                return self._root
        return None

    def _begin(self, event: Any) -> None:
        self._start = event.start_mark.index
        self._anchors.clear()
        self._root = None

    def _scalar(self, event: Any) -> None:
        self._check(event)
        top = self._stack[-1] if self._stack else None
        plain = event.tag is None and event.style in (None, "")
        if top is not None and top.mapping and top.key is None:
            self._key(top, event, merging=plain and event.value == "<<")
            return
        try:
            value = resolve_plain(event.value) if plain else event.value
        except ValueError as error:
            self._refuse(event, str(error), "put it in quotes")
        node = Node(value, event.start_mark.line + 1, event.start_mark.column + 1)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        self._attach(node)

    def _key(self, top: _Open, event: Any, *, merging: bool) -> None:
        top.key, top.merging = event.value, merging
        if merging:
            return
        place = event.start_mark.line + 1, event.start_mark.column + 1
        first = top.node.keys.setdefault(event.value, place)
        if first != place:
            self._twice.append(self._problem(event, f"the key is there already, in line {first[0]}"))

    def _open(self, event: Any, value: Any) -> None:
        self._check(event)
        self._check_not_key(event)
        if len(self._stack) >= MAX_DEPTH:
            # Without the path, which would be that deep, too.
            self._stack.clear()
            self._refuse(event, f"expected at most {MAX_DEPTH} levels of nesting")
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        node = Node(value, event.start_mark.line + 1, event.start_mark.column + 1)
        self._stack.append(_Open(node, event.anchor))

    def _close(self) -> None:
        done = self._stack.pop()
        for merged in done.merges:
            for key, child in merged.children.items():
                if key not in done.node.children:
                    self._put(done.node, key, child)
        if done.anchor is not None:
            self._anchors[done.anchor] = done.node
        self._attach(done.node)

    def _alias(self, event: Any) -> None:
        self._check_not_key(event)
        node = self._anchors.get(event.anchor)
        if node is not None:
            self._attach(node)
        elif event.anchor in self._anchors:
            self._refuse(event, f"*{event.anchor} stands inside of what it refers to")
        else:
            self._refuse(event, f"there is no anchor &{event.anchor}")

    def _attach(self, node: Node) -> None:
        if not self._stack:
            self._root = node
            return
        top = self._stack[-1]
        if not top.mapping:
            self._put(top.node, len(top.node.children), node)
        elif top.merging:
            top.merges += self._merged(node)
        elif top.key not in top.node.children:
            self._put(top.node, str(top.key), node)
        top.key, top.merging = None, False

    def _merged(self, node: Node) -> list[Node]:
        parts = list(node.children.values()) if isinstance(node.value, list) else [node]
        if not all(isinstance(part.value, dict) for part in parts):
            self._refuse_node(node, "<< takes an object or a list of objects")
        return parts

    def _put(self, parent: Node, key: str | int, child: Node) -> None:
        parent.size += child.size
        parent.height = max(parent.height, child.height + 1)
        if parent.size > MAX_NODES:
            self._refuse_node(child, f"expected at most {MAX_NODES} values, aliases expanded")
        if len(self._stack) + parent.height > MAX_DEPTH + 2:
            self._refuse_node(child, f"expected at most {MAX_DEPTH} levels of nesting, aliases expanded")
        parent.children[key] = child
        if isinstance(parent.value, list):
            parent.value.append(child.value)
        else:
            parent.value[key] = child.value

    def _check(self, event: Any) -> None:
        if event.end_mark.index - self._start > MAX_DOCUMENT_CHARACTERS:
            self._refuse(event, f"the document is larger than {MAX_DOCUMENT_CHARACTERS >> 20} MiB")
        if event.tag not in _TAGS:
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            self._refuse(event, f"the YAML tag {tag} is not supported")

    def _check_not_key(self, event: Any) -> None:
        if self._stack and self._stack[-1].mapping and self._stack[-1].key is None:
            self._refuse(event, "expected a key that is a string")

    def _location(self) -> Location:
        parts = [open_.key if open_.mapping else len(open_.node.children) for open_ in self._stack]
        return tuple(part for part in parts if part is not None)

    def _problem(self, event: Any, message: str, remedy: str | None = None) -> Problem:
        line, column = event.start_mark.line + 1, event.start_mark.column + 1
        path = format_path(self._location())
        return Problem(path, message, remedy=remedy, source=self._source, line=line, column=column)

    def _refuse(self, event: Any, message: str, remedy: str | None = None) -> NoReturn:
        raise ManifestError([self._problem(event, message, remedy)])

    def _refuse_node(self, node: Node, message: str) -> NoReturn:
        raise ManifestError([Problem("", message, source=self._source, line=node.line, column=node.column)])
