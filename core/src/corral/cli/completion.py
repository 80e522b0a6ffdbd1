"""What the shell offers after Tab."""

from collections.abc import Iterator


def complete_words(args: list[str], incomplete: str) -> list[str]:
    """Offer the tools' names for the first word of ``corral run``, and the tool's arguments after it."""
    from corral.catalogue import Catalogue

    catalogue = Catalogue.builtin()
    tool = next((word for word in args if word in catalogue), None)
    if tool is None:
        return complete_tool(incomplete)
    properties = catalogue.get(tool).spec.input_schema.get("properties", {})
    return [f"{name}=" for name in properties if name.startswith(incomplete)]


def complete_tool(incomplete: str) -> list[str]:
    """Offer the names of tools."""
    return [name for name in _names() if name.startswith(incomplete.replace("_", "-"))]


def _names() -> Iterator[str]:
    from corral.catalogue import Catalogue

    yield from Catalogue.builtin().names()
