"""JSON and YAML for programs."""

import json
from collections.abc import Sequence
from typing import Any

from corral.cli.formats import Format
from corral.cli.visible import escaped, is_obeyed


def kubernetes_list(items: Sequence[Any]) -> dict[str, Any]:
    """Return several resources as one, the way ``kubectl get -o json`` does."""
    return {"apiVersion": "v1", "kind": "List", "items": list(items)}


def document(value: Any, style: Format) -> str:
    """Write a JSON value as a document that ends in a newline. A terminal obeys nothing in it."""
    if style is Format.YAML:
        return escaped(_yaml(value))
    return escaped(json.dumps(value, indent=2, ensure_ascii=False)) + "\n"


def _yaml(value: Any) -> str:
    import yaml

    base: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

    class Dumper(base):  # type: ignore[misc]  # the C one exists only where libyaml does
        """Texts of several lines as blocks, so that a person can read them; no anchors."""

        def ignore_aliases(self, _data: Any) -> bool:
            return True

    def text(dumper: Any, data: str) -> Any:
        style = None
        if is_obeyed(data):
            style = '"'
        elif "\n" in data and not any(line.endswith((" ", "\t")) for line in data.split("\n")):
            style = "|"
        return dumper.represent_scalar("tag:yaml.org,2002:str", data, style=style)

    Dumper.add_representer(str, text)
    return str(yaml.dump(value, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=100))
