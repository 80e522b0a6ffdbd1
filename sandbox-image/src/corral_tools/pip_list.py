"""The Python distributions that code in the sandbox can import, with their versions."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from importlib.metadata import PackageMetadata
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
        # A directory left behind by a broken removal has no metadata to speak of.
        name = _field(metadata, "Name")
        if not name or _normalized(name) in found or wanted not in _normalized(name):
            continue
        summary = _field(metadata, "Summary")
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


def _field(metadata: "PackageMetadata", name: str) -> str:
    # Not metadata[name]: what is missing gives None in Python 3.11, and a warning from 3.12 on.
    return str((metadata.get_all(name) or [""])[0])


def _normalized(name: str) -> str:
    """A name as the packaging specification compares it (PEP 503), without the import of `re`."""
    return "-".join(part for part in name.lower().replace("_", "-").replace(".", "-").split("-") if part)
