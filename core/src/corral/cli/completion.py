"""What the shell offers after Tab."""

import typer


def complete_words(context: typer.Context, incomplete: str) -> list[str]:
    """Offer the tools' names for the first word of ``corral run``, and the tool's arguments after it."""
    words: list[str] = context.params.get("words") or []
    if not words:
        return complete_tool(incomplete)
    from corral.catalogue import Catalogue

    catalogue = Catalogue.builtin()
    if words[0] not in catalogue:
        return []
    properties = catalogue.get(words[0]).spec.input_schema.get("properties", {})
    return [f"{name}=" for name in properties if name.startswith(incomplete)]


def complete_tool(incomplete: str) -> list[str]:
    """Offer the names of tools, hyphens and underscores being the same in them."""
    from corral.catalogue import Catalogue, normalise

    begun = normalise(incomplete)
    return [name for name in Catalogue.builtin().names() if normalise(name).startswith(begun)]
