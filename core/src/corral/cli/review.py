"""``corral validate``: every problem of every manifest, with its place."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

from corral.api import Problem
from corral.cli.documents import document
from corral.cli.exits import BadInputError, Exit
from corral.cli.formats import Format
from corral.cli.intake import StandardInput
from corral.cli.manifests import Manifests, Review, build_catalogue, read_manifests, review
from corral.cli.terminal import Terminal


def validate_manifests(
    sources: Sequence[str], tools: Sequence[str], terminal: Terminal, style: Format
) -> Exit:
    """Check manifests and say what is wrong with them.

    Raises:
        BadInputError: there are problems, and they are to be told to a person.
    """
    try:
        manifests, found = _read(sources, tools)
    except BadInputError as error:
        if style is Format.TABLE:
            raise
        details = error.details or tuple(Problem("", text) for text in error.problems)
        terminal.out.write(document(_report(details, ()), style))
        return Exit.BAD_INPUT
    if style is not Format.TABLE:
        terminal.out.write(document(_report((), found.unknown), style))
        return Exit.SUCCEEDED
    for problem in found.unknown:
        terminal.note(str(problem))
    terminal.out.line(_told(manifests))
    return Exit.SUCCEEDED


def _read(sources: Sequence[str], tools: Sequence[str]) -> tuple[Manifests, Review]:
    manifests = read_manifests(sources, StandardInput())
    found = review(manifests, build_catalogue(tools, manifests))
    if found.problems:
        raise BadInputError(found.problems)
    return manifests, found


def _told(manifests: Manifests) -> str:
    kinds = Counter(item.kind for item in manifests.loaded)
    return "valid: " + ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))


def _report(problems: Sequence[Problem], notes: Sequence[Problem]) -> dict[str, object]:
    return {"valid": not problems, "problems": _wire(problems), "notes": _wire(notes)}


def _wire(problems: Sequence[Problem]) -> list[dict[str, object]]:
    return [
        {name: value for name, value in asdict(problem).items() if value not in (None, "")}
        for problem in problems
    ]
