"""Which versions of tools a task was let in with: the gateway writes it on the task, the operator reads it.

Both learn of tools from watches of their own, and either may be ahead. A task that names what its tools were cannot be
run with what they were before, however busy the cluster is. Whoever writes it by hand makes the operator ask once more
for a tool, and gets what is there.
"""

import sys
from collections.abc import Collection, Iterable, Mapping

from corral.api import GROUP, Tool
from corral.catalogue.catalogue import Catalogue, normalise

#: The versions of the tools that a task was let in with, of which the operator may not have heard yet.
TOOL_VERSIONS_ANNOTATION = f"{GROUP}/tool-versions"
#: Instead of a version: no version that anybody knows is new enough not to ask.
_ASK = "?"
#: More than any version that is one, and none that takes long to read.
_MOST_DIGITS = 20


def versions_written(called: Iterable[str], catalogue: Catalogue) -> dict[str, str]:
    """Return the annotation that tells the versions of the tools that a task calls: ``name=version,name=version``.

    Built-in tools have none; without any other there is no annotation. Of a tool that is not known here, because it was
    deleted a moment ago or made elsewhere, it says that whoever knows it should ask.
    """
    versions: dict[str, str] = {}
    for name in sorted(set(map(normalise, called))):
        tool = catalogue.find(name)
        if tool is None:
            versions[name] = _ASK
        elif version := version_of_tool(tool):
            versions[name] = str(version)
    if not versions:
        return {}
    return {TOOL_VERSIONS_ANNOTATION: ",".join(f"{name}={version}" for name, version in versions.items())}


def versions_read(annotations: Mapping[str, str], called: Collection[str]) -> dict[str, int]:
    """Return the versions that a task names of the tools that it calls; what is no version is as good as absent."""
    names = set(map(normalise, called))
    pairs = (
        pair.partition("=")
        for pair in annotations.get(TOOL_VERSIONS_ANNOTATION, "").split(",", maxsplit=len(names))
    )
    return {
        name: number
        for name, _, text in pairs
        if name in names and (number := sys.maxsize if text == _ASK else _number(text))
    }


def version_of_tool(tool: Tool) -> int:
    """Return the version in which the API server has a tool; 0: a built-in one."""
    return _number(tool.metadata.resource_version or "")


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS else 0
