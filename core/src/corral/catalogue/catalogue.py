"""The tools that tasks may name."""

from collections.abc import Collection, Iterable, Iterator
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Self

from corral.api import LoadedManifest, ManifestError, Problem, Tool, load_manifests
from corral.catalogue.errors import ToolExistsError, ToolNotFoundError
from corral.catalogue.search import rank

#: The package whose ``NAME.yaml`` files describe the built-in tools.
BUILTIN_PACKAGE = "corral_tools"


def normalise(name: str) -> str:
    """Return the form under which a tool is kept: ``read_file``, as programs write, and ``read-file``, as
    Kubernetes asks, are the same tool.
    """
    return name.replace("_", "-")


class Catalogue:
    """Tools by name. Reading one manifest is put off until its tool is asked for."""

    def __init__(self, tools: Iterable[Tool] = ()) -> None:
        self._tools: dict[str, Tool] = {}
        self._unread: dict[str, str] = {}
        #: Grows with each change of what there is, so that what was made of it can be kept.
        self.version = 0
        for tool in tools:
            self.register(tool)

    @classmethod
    def builtin(cls) -> Self:
        """Return a new catalogue of the tools that ship with Corral."""
        catalogue = cls()
        for entry in resources.files(BUILTIN_PACKAGE).iterdir():
            if entry.name.endswith(".yaml"):
                catalogue._unread[normalise(entry.name.removesuffix(".yaml"))] = entry.name
        return catalogue

    def register(self, tool: Tool, *, replace: bool = False) -> None:
        """Add a tool.

        Raises:
            ToolExistsError: there is one of this name, and ``replace`` was not said.
        """
        name = normalise(tool.name)
        if not replace and name in self:
            raise ToolExistsError(tool.name)
        self._unread.pop(name, None)
        self._tools[name] = tool
        self.version += 1

    def unregister(self, name: str) -> None:
        """Take a tool out; one that is not there is no mistake."""
        key = normalise(name)
        self._unread.pop(key, None)
        self._tools.pop(key, None)
        self.version += 1

    def load_directory(self, path: Path, *, replace: bool = False) -> list[Tool]:
        """Register every Tool in the manifests of a directory, or of a file, and return them.

        Raises:
            ManifestError: a manifest is wrong, or holds something else than tools; none was registered.
            ToolExistsError: a name is taken; none was registered.
        """
        tools = list(_tools_in(load_manifests(path)))
        if not replace:
            seen = self._tools.keys() | self._unread.keys()
            for tool in tools:
                if normalise(tool.name) in seen:
                    raise ToolExistsError(tool.name)
                seen |= {normalise(tool.name)}
        for tool in tools:
            self.register(tool, replace=True)
        return tools

    def get(self, name: str) -> Tool:
        """Return a tool by its name.

        Raises:
            ToolNotFoundError: there is none; it suggests one that is spelt alike.
            ManifestError: its manifest, read only now, is wrong.
        """
        key = normalise(name)
        tool = self._tools.get(key)
        if tool is not None:
            return tool
        unread = self._unread.get(key)
        if unread is None:
            raise ToolNotFoundError(name, self.names())
        tool = self._tools[key] = _read(BUILTIN_PACKAGE, unread, key)
        del self._unread[key]
        return tool

    def discover(
        self,
        query: str = "",
        categories: Collection[str] = (),
        tags: Collection[str] = (),
        *,
        exclude_dangerous: bool = False,
        max_results: int | None = None,
    ) -> list[Tool]:
        """Return the tools that fit, best first.

        Args:
            query: words to look for in name, tags, category and description; empty: any.
            categories: keep tools of one of these; empty: any.
            tags: keep tools with one of these at least; empty: any.
            exclude_dangerous: leave out tools that can do harm that cannot be undone.
            max_results: at most so many; None: all.
        """
        wanted_categories = {category.casefold() for category in categories}
        wanted_tags = {tag.casefold() for tag in tags}
        tools = (
            tool
            for tool in self
            if not (exclude_dangerous and tool.spec.dangerous)
            and (not wanted_categories or tool.spec.category.casefold() in wanted_categories)
            and (not wanted_tags or not wanted_tags.isdisjoint(tag.casefold() for tag in tool.spec.tags))
        )
        return rank(tools, query)[:max_results]

    def find(self, name: str) -> Tool | None:
        """Return a tool by its name, None if there is none."""
        return self.get(name) if name in self else None

    def known(self, names: Iterable[str]) -> list[Tool]:
        """Return those of these tools that there are, each once, in the order of their names."""
        return [self.get(name) for name in sorted({normalise(name) for name in names}) if name in self]

    def names(self) -> list[str]:
        """Return the names of all tools, in order, without reading any manifest."""
        unread = (file.removesuffix(".yaml") for file in self._unread.values())
        return sorted([*(tool.name for tool in self._tools.values()), *unread])

    def __iter__(self) -> Iterator[Tool]:
        return (self.get(name) for name in self.names())

    def __len__(self) -> int:
        return len(self._tools) + len(self._unread)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (normalise(name) in self._tools or normalise(name) in self._unread)


@cache
def _read(package: str, file: str, key: str) -> Tool:
    """Read a manifest that ships with Corral; once, however many catalogues there are."""
    text = resources.files(package).joinpath(file).read_text(encoding="utf-8")
    manifests = load_manifests(text, source=file, trusted=True)
    tool = next((tool for tool in _tools_in(manifests) if normalise(tool.name) == key), None)
    if tool is None:
        raise ManifestError([Problem("metadata.name", f'expected "{key}", as the file says', source=file)])
    return tool


def _tools_in(manifests: Iterable[LoadedManifest]) -> Iterator[Tool]:
    for manifest in manifests:
        if not isinstance(manifest.resource, Tool):
            problem = Problem(
                "kind", f"expected Tool, found {manifest.kind}", source=manifest.source, line=manifest.line
            )
            raise ManifestError([problem])
        yield manifest.resource
