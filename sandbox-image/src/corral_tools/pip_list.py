"""The Python distributions that code in the sandbox can import, with their versions."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from corral_runner.interface import JSON, ToolContext

_SUMMARY_CHARACTERS = 200
#: Several times what an image holds; so many descriptions fit a result.
MAX_PACKAGES = 500


def run(arguments: "Mapping[str, Any]", _context: "ToolContext") -> "JSON":
    """Distributions by name; of two of one name, the first on ``sys.path``, which is the one imported."""
    from importlib.metadata import distributions

    wanted = _normalized(arguments.get("name", ""))
    found: dict[str, JSON] = {}
    for distribution in distributions():
        metadata = distribution.metadata
        name: str | None = metadata["Name"]
        # A directory left behind by a broken removal has no metadata to speak of.
        if not name or _normalized(name) in found or wanted not in _normalized(name):
            continue
        summary = metadata["Summary"] or ""
        found[_normalized(name)] = {
            "name": name,
            "version": distribution.version,
            "summary": "" if summary == "UNKNOWN" else summary[:_SUMMARY_CHARACTERS],
        }
    names = sorted(found)
    return {
        "packages": [found[name] for name in names[:MAX_PACKAGES]],
        "count": len(names),
        "truncated": len(names) > MAX_PACKAGES,
    }


def _normalized(name: str) -> str:
    """A name as the packaging specification compares it (PEP 503), without the import of `re`."""
    return "-".join(part for part in name.lower().replace("_", "-").replace(".", "-").split("-") if part)
