"""Which versions of tools a task was let in with: the gateway writes it on the task, the operator reads it.

Both learn of tools from watches of their own, and either may be ahead. A task that names what its tools were cannot be
run with what they were before, however busy the cluster is. Whoever writes it by hand makes the operator ask once more
for a tool, and gets what is there.
"""

from collections.abc import Iterable, Mapping

from corral.api import GROUP, Tool
from corral.catalogue.catalogue import normalise

#: The versions of the tools that a task was let in with, of which the operator may not have heard yet.
TOOL_VERSIONS_ANNOTATION = f"{GROUP}/tool-versions"
#: More than any version that is one, and none that takes long to read.
_MOST_DIGITS = 20


def versions_written(tools: Iterable[Tool]) -> dict[str, str]:
    """Return the annotation that tells the versions of these tools, as ``name=version,name=version``.

    Built-in tools have none. Without any other there is no annotation.
    """
    versions = {normalise(tool.name): version for tool in tools if (version := version_of_tool(tool))}
    if not versions:
        return {}
    return {TOOL_VERSIONS_ANNOTATION: ",".join(f"{name}={versions[name]}" for name in sorted(versions))}


def versions_read(annotations: Mapping[str, str]) -> dict[str, int]:
    """Return the versions that a task names, by tool; what is no version is as good as absent."""
    pairs = (pair.partition("=") for pair in annotations.get(TOOL_VERSIONS_ANNOTATION, "").split(","))
    return {name: number for name, _, text in pairs if name and (number := _number(text))}


def version_of_tool(tool: Tool) -> int:
    """Return the version in which the API server has a tool; 0: a built-in one."""
    return _number(tool.metadata.resource_version or "")


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS else 0
